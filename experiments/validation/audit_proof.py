"""Prove the audit: runtimes that lie are found, and honest runtimes are not.

  python -m experiments.validation.audit_proof                         200 honest launches: half an hour on two cores
  python -m experiments.validation.audit_proof honest=40 seconds=300   shorter, in slices of five minutes

A launch is a fresh process that loads, times a few rounds and gives evidence, in turns with others. Results are written
to RESULTS_DIR/audit-proof as they are measured, so a second run continues where the first ended. The table is
RESULTS_DIR/audit-proof/audit.md. Own options: honest, the number of launches (200); lying, launches of each lie (2);
seconds, after which no set of launches is started. It also takes all overrides of `python -m experiments.run`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.overrides import cells, own_words
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.execution.progress import Deadline, Progress
from runtime_matrix.experiments.records.journal import Journal
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.timing.launch import launch
from runtime_matrix.experiments.timing.runner import Runner
from runtime_matrix.experiments.validation.audit_lies import LIES
from runtime_matrix.experiments.validation.audit_table import JOURNAL, ProofLaunch, read_launches, write_table

# Groups that are launched together with the reference, which is one of the honest runtimes.
HONEST = (
    ("compile", "onnxruntime", "onnxruntime_w8a8", "onnxruntime_w4a8"),
    ("gptq", "awq", "offload", "torchao_int8"),
    ("nf4", "compile_torchao_int8", "gptq_2bit", "gptq_3bit"),
)
_REFERENCE = "eager"
_LIARS_TOGETHER = 5
_OWN_OPTIONS: dict[str, str | None] = {"honest": "200", "lying": "2", "seconds": "1000000"}
_SMALL = (
    *("benchmark=[latency]", "benchmark.latency.iterations=2", "benchmark.latency.warmup=1", "resume=true"),
    *("comparison.rounds=4", "comparison.warmup=1", "comparison.extra_rounds=2", "comparison.one_thread_rounds=4"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and write the table. Return 1 if a lie was missed or an honest launch failed."""
    return run_command(argv, __doc__, _prove, "completed launches are recorded; the same command continues")


def _prove(words: Sequence[str]) -> int:
    own, given = own_words(words, _OWN_OPTIONS)
    for name, value in own.items():
        if not str(value).isdigit() or int(str(value)) < 1:
            raise UserError(f"{name}={value} must be a number of at least 1")
    proof = AuditProof(given.overrides, recorded_command("validation.audit_proof", words), float(str(own["seconds"])))
    with Progress(2, True) as progress:
        proof.lies(int(str(own["lying"])), progress)
        proof.honest(int(str(own["honest"])), progress)
    path, is_proved = write_table(proof.folder)
    print(path.read_text(encoding="utf-8"))
    print(f"written: {path}")
    return 0 if is_proved else 1


class AuditProof:
    """Measures the launches that are missing in the journal."""

    def __init__(self, overrides: Sequence[str], command: str, seconds: float):
        self._overrides, self._command, self._deadline = list(overrides), command, Deadline(seconds)
        home = Path(cells(own_words(self._words([]), {})[1], _REFERENCE, command)[0].config.results_dir)
        self.folder = home / "audit-proof"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.folder / JOURNAL)

    def lies(self, count: int, progress: Progress) -> None:
        """Launch each lie `count` times."""
        done = Counter(line.name for line in read_launches(self.folder) if line.is_lie)
        missing = [lie for lie in LIES if done[lie.name] < count]
        for start in range(0, len(missing), _LIARS_TOGETHER):
            group = missing[start : start + _LIARS_TOGETHER]
            names = [lie.name for lie in group]
            self._launches(names, [lie.words for lie in group], count, progress, is_lie=True)

    def honest(self, count: int, progress: Progress) -> None:
        """Launch the honest runtimes in groups until there are `count` launches."""
        while not self._deadline.is_over():
            done = Counter(line.name for line in read_launches(self.folder) if not line.is_lie)
            if done.total() >= count:
                return
            progress.note(f"{done.total()} of {count} honest launches")
            group = min(HONEST, key=lambda names: sum(done[name] for name in names))
            self._launches(group, [[f"runtime={name}"] for name in group], 1, progress, is_lie=False)

    def _launches(
        self, names: Sequence[str], words: Sequence[Sequence[str]], count: int, progress: Progress, is_lie: bool
    ) -> None:
        if self._deadline.is_over():
            return
        planned = [self._cell(choice) for choice in words]
        reference = self._cell([f"runtime={_REFERENCE}"])
        records = measure_cells([reference, *planned], progress)
        pairs = [
            (name, cell, record)
            for name, cell, record in zip([_REFERENCE, *names], [reference, *planned], records, strict=True)
            if record.status == "ok"
        ]
        for _ in range(count):
            if self._deadline.is_over():
                return
            progress.note(f"launch: {', '.join(names)}")
            self._launch(pairs, is_lie)

    def _launch(self, pairs: Sequence[tuple[str, Cell, Record]], is_lie: bool) -> None:
        reference = pairs[0][1]
        results = Path(reference.config.results_dir)
        runners = [Runner(cell, results / record.record_id) for _, cell, record in pairs]
        start = time.monotonic()
        measured = launch(runners, reference.config.comparison, fork=True)
        for index, (name, cell, record) in enumerate(pairs):
            if index == 0 and is_lie:
                continue
            self._journal.write(
                "launch",
                ProofLaunch(
                    name=name,
                    is_lie=is_lie,
                    record_id=record.record_id,
                    token_rule="exact" if cell.config.runtime.weights == reference.config.runtime.weights else "share",
                    launch=None if index in measured.failures else measured.stored(index),
                    failure=measured.failures.get(index),
                    wall_s=time.monotonic() - start,
                    commit=record.environment.commit,
                ),
            )

    def _cell(self, words: Sequence[str]) -> Cell:
        _, given = own_words(self._words(words), {})
        cell = cells(given, _REFERENCE, self._command)[1][0]
        return replace(cell, config=replace(cell.config, results_dir=str(self.folder_of(cell))))

    def folder_of(self, cell: Cell) -> Path:
        """Return the folder of the records, whose answers were scored."""
        return Path(cell.config.results_dir) / "audit-proof" / "records"

    def _words(self, words: Sequence[str]) -> list[str]:
        return [*_SMALL, "progress=false", *self._overrides, *words]


if __name__ == "__main__":
    sys.exit(main())
