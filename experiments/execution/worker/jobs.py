"""The seven jobs of a cell, each in its own process. A record needs only `measure`.

`check`: whether the machine has what the runtime needs. `hardware_peak`: copy bandwidth and matrix rates.
`reference`: the reference's outputs that the benchmarks compare with. `measure`: the benchmarks, under pytest.
`shard`: the responses to a part of the items, which `measure` merges. `replay`: the timed tokens, scored by the
reference. `profile`: where the time goes, on demand and never timed.
"""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.parts import is_shard
from runtime_matrix.experiments.config.program import drop_second_name
from runtime_matrix.experiments.config.schema import RuntimeConfig
from runtime_matrix.experiments.evaluation import interruption
from runtime_matrix.experiments.execution import binding
from runtime_matrix.experiments.execution.binding import Binding
from runtime_matrix.experiments.measurement.processes import tree_cpu_s
from runtime_matrix.experiments.records.journal import Journal, read_journal
from runtime_matrix.experiments.records.schema import Replay
from runtime_matrix.experiments.tasks.bench import ReferenceBench

if TYPE_CHECKING:  # pytest is imported in a cell's process alone
    from runtime_matrix.experiments.execution.worker.plugin import CellPlugin

KEPT = "kept"  # the message of a process whose loaded base waits for another adapter
SPENT = "spent"  # its last message, with its CPU seconds
_PR_SET_PDEATHSIG = 1
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def main(
    variables: Mapping[str, str],
    job: str,
    cell: Cell,
    folder: Path,
    progress: Connection | None,
    argument: Any = None,
) -> None:
    """Run one job and exit the process; the outcome is in the journal, or in the exit code after a crash.

    `variables`: the environment. `argument`: the dtypes of `hardware_peak`; for `measure` a connection from which
    further cells may come; for `shard` its Binding.
    """
    isolate(folder / "output.log")
    _set_environment(variables)
    interruption.install()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        if job == "hardware_peak":
            _hardware_peak(cell, folder, argument or ("float32",))
        elif job == "measure":
            _measure(cell, folder, progress, argument)
        elif job == "shard":
            _shard(cell, folder, progress, argument)
        else:
            jobs = {"check": _check, "reference": _reference, "replay": _replay, "profile": _profile}
            jobs[job](cell, folder, progress)
    except BaseException as error:
        _write_failure(job, folder, error)
    if progress is not None:
        with suppress(OSError):
            progress.send((SPENT, tree_cpu_s()))
    sys.stdout.flush()
    sys.stderr.flush()
    # Shutdown of the interpreter may crash or hang with engines that own threads; all results are on disk by now.
    os._exit(0)


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _write_failure(job: str, folder: Path, error: BaseException) -> None:
    from runtime_matrix.experiments.execution.worker.loading import classify

    status, reason = classify(error)
    import traceback

    traceback.print_exc()
    Journal(folder / "journal.jsonl").write("failed", job=job, status=status, reason=reason)


def isolate(log: Path) -> None:
    """Become a process group that dies with its parent, and redirect all output to the log."""
    drop_second_name()
    os.setsid()  # its own process group, so that its children can be ended with it and Ctrl-C reaches only the parent
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The fork server detects the end of its parent by the closing of a pipe, whose end a forked child inherits.
    alive = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]
    if alive is not None:
        os.close(alive)
        forkserver._forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]
    _write_output_to(log)
    faulthandler.enable(file=2)


def _write_output_to(log: Path) -> None:
    # A file, because a grandchild that keeps a pipe open would make a finished cell hang.
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def _check(cell: Cell, folder: Path, progress: Connection | None) -> None:
    """Check that the machine matches the profile and has what the runtime needs; Unsupported names what is missing."""
    from runtime_matrix.experiments.execution.worker.device import misfit, present
    from runtime_matrix.experiments.execution.worker.loading import adapted_source, check_generation, make_runtime
    from runtime_matrix.experiments.execution.worker.memory_estimate import estimated
    from runtime_matrix.runtimes.base import Unsupported

    runtime, missing = make_runtime(cell.config.runtime), misfit(cell.config.hw)
    adapted_source(cell, runtime, cell.config.runtime)
    check_generation(cell, runtime, cell.config.runtime)
    reference = cell.config.reference.name
    if missing is None or cell.config.hw.allow_mismatch:
        runtime.check(cell.hardware(present(cell.config.hw)))
        estimate = estimated(cell, runtime, cell.hardware(present(cell.config.hw)))
        if estimate is not None:
            Journal(folder / "journal.jsonl").write("memory_estimate", estimate)
        return
    try:
        runtime.check(cell.hardware(present(cell.config.hw)))
    except Unsupported as error:
        remedy = f"runtime={cell.config.runtime.name} cannot run here either: {error}; use runtime={reference} hw=auto"
    else:
        remedy = "use hw=auto here, or run anyway with hw.allow_mismatch=true"
    raise Unsupported(f"hw={cell.config.hw.name} needs {missing}; {remedy}")


def _measure(cell: Cell, folder: Path, progress: Connection | None, orders: Connection | None = None) -> None:
    """Measure a cell, and further ones on the same loaded base, as long as `orders` gives cells with other adapters."""
    from runtime_matrix.experiments.execution.worker.plugin import CellPlugin

    plugin, is_followed = CellPlugin(cell, folder, progress), True
    while True:
        with closing(plugin):
            try:
                _run_benchmarks(plugin.cell, plugin.folder, plugin)
            except BaseException as error:
                _write_failure("measure", plugin.folder, error)
                return
            if orders is None or not is_followed or not plugin.can_switch():
                return
            plugin.tell(KEPT)
            try:
                following, its_folder, is_followed = orders.recv()
            except (EOFError, OSError):
                return
            _write_output_to(its_folder / "output.log")
            plugin = plugin.followed_by(following, its_folder)


def _shard(cell: Cell, folder: Path, progress: Connection | None, bound: Binding) -> None:
    """Compute a shard's part of the items, without the benchmarks that an earlier attempt has finished."""
    from runtime_matrix.experiments.execution.worker.plugin import CellPlugin
    from runtime_matrix.experiments.execution.worker.sharding import without_done

    binding.apply(bound)
    _check(cell, folder, progress)
    left = without_done(cell, folder)
    with closing(CellPlugin(left, folder, progress)) as plugin:
        if left.config.benchmark.options:
            _run_benchmarks(left, folder, plugin)
        else:
            plugin.journal.write("finished", status="ok", reason=None)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    plugin.journal.write("shard_end", cpu_s=sum(part.ru_utime + part.ru_stime for part in used))


def _run_benchmarks(cell: Cell, folder: Path, plugin: CellPlugin) -> None:
    import pytest

    from runtime_matrix.experiments.execution.worker.overlap import overlap_of

    arguments = [
        str(BENCHMARKS),
        f"--rootdir={BENCHMARKS}",
        f"--benchmark-json={folder / 'pytest-benchmark.json'}",
        f"--basetemp={folder / 'tmp'}",
        *("-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin", "-q"),
    ]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # other installed plugins must not change a measurement
    code = pytest.main(arguments, plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {code!r}; see output.log")
    if not cell.config.shard:  # of the shards, the first one tells of all
        plugin.write_probe()
    if cell.facts.has_tokenizer and not is_shard(cell):  # after all measurements of time and memory
        plugin.journal.write("overlap", overlap_of(cell))
    plugin.parts.write_end(plugin.journal)
    plugin.journal.write("finished", status=plugin.status, reason=plugin.reason)


def _hardware_peak(cell: Cell, folder: Path, dtypes: Sequence[str]) -> None:
    from runtime_matrix.experiments.execution.worker import hardware_peak
    from runtime_matrix.experiments.execution.worker.device import resolve

    peak = hardware_peak.measure(resolve(cell.config.hw)[0], cell.threads, dtypes)
    Journal(folder / "journal.jsonl").write("hardware_peak", peak)


def _reference(cell: Cell, folder: Path, progress: Connection | None) -> None:
    """Write the reference's outputs that the cell's benchmarks need into the folder."""
    from runtime_matrix.experiments.execution.worker.device import resolve
    from runtime_matrix.experiments.execution.worker.loading import load, make_stepping, make_text
    from runtime_matrix.experiments.execution.worker.plugin import cases

    config = cell.config
    hardware = cell.hardware(resolve(config.hw)[0])

    @contextmanager
    def loaded(runtime_config: RuntimeConfig) -> Iterator[ReferenceBench]:
        with make_stepping(runtime_config, "the reference") as runtime:
            traits = load(cell.of_reference, runtime, runtime_config, hardware, lambda name: nullcontext())
            text = make_text(cell)
            yield ReferenceBench(folder, runtime, traits, text, config.seed, config.scoring, config.agreement)

    chosen = {case.task.name: case for case in cases(cell)}.values()
    with loaded(config.reference) as reference:
        for case in chosen:
            case.task.write_reference(reference, case.config)
    if config.runtime.dtype != config.reference.dtype:
        with loaded(dataclasses.replace(config.reference, dtype=config.runtime.dtype)) as reference:
            for case in chosen:
                case.task.write_reference_in_own_dtype(reference)


def _profile(cell: Cell, folder: Path, progress: Connection | None) -> None:
    from runtime_matrix.experiments.execution.worker.profiling import profile

    profile(cell, folder)


def _replay(cell: Cell, folder: Path, progress: Connection | None) -> None:
    from runtime_matrix.experiments.evaluation.requests import ScoreRequest
    from runtime_matrix.experiments.evaluation.scoring import score
    from runtime_matrix.experiments.execution.worker.device import resolve
    from runtime_matrix.experiments.execution.worker.loading import load, make_stepping

    journal = folder / "journal.jsonl"
    requests: list[ScoreRequest] = []
    banned: frozenset[int] = frozenset()
    for event in read_journal(journal):
        timed = event.get("timed_tokens") or {}
        for prompt, new in zip(timed.get("prompts", []), timed.get("new", []), strict=True):
            requests.append(ScoreRequest((*prompt, *new[: cell.config.agreement.token_ids]), len(prompt)))
        banned |= frozenset(timed.get("banned", []))
    if not requests:
        return
    hardware = cell.hardware(resolve(cell.config.hw)[0])
    with make_stepping(cell.config.reference, "the reference") as runtime:
        traits = load(cell.of_reference, runtime, cell.config.reference, hardware, lambda name: nullcontext())
        scored = score(runtime, traits, requests, cell.config.scoring, banned=banned)
    gaps = [gap for request in scored for gap in request.top1_margins]
    replay = Replay(tokens=len(gaps), same_top_tokens=sum(gap == 0 for gap in gaps), max_logprob_gap=max(gaps))
    Journal(journal).write("replay", replay)
