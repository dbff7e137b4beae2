"""Load the runtime of a cell, with the times and the memory that it takes; what the runtime declares is checked."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.targets import module_of
from runtime_matrix.experiments.execution.worker import declared, device, loading
from runtime_matrix.experiments.execution.worker.bench import LoadedRuntime
from runtime_matrix.experiments.execution.worker.rank_memory import RankMemory
from runtime_matrix.experiments.measurement.clocks import PhaseTimer
from runtime_matrix.experiments.measurement.memory import PeakMeter, Sampler, mapped_file_bytes
from runtime_matrix.experiments.records.schema import HeldWeights, Load
from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import Engine, ModelSource, Runtime, Traits

_ON_LOADED_BASE = "the base was loaded by an earlier cell of this process, and only the adapter exchanged"


@dataclass(frozen=True)
class MeasuredLoad:
    """A loaded runtime, what the record says of it, and why its declaration is wrong; None if it is not."""

    loaded: LoadedRuntime
    load: Load
    wrong: str | None


class Loader:
    """Loads the runtime of a cell, or exchanges the adapter of a loaded `base`.

    `opened` closes the runtime. `tell` takes progress messages. `imported_since` is when the process began to import.
    """

    def __init__(
        self,
        cell: Cell,
        base: LoadedRuntime | None,
        meter: PeakMeter,
        opened: ExitStack,
        tell: Callable[..., None],
        imported_since: float,
    ):
        self._cell, self._base, self._meter, self._tell = cell, base, meter, tell
        self._device, self._mismatch = device.resolve(cell.config.hw)
        self._runtime: Engine = (
            base.runtime if base is not None else opened.enter_context(loading.make_runtime(cell.config.runtime))
        )
        importlib.import_module(module_of(str(cell.config.runtime.engine["target"])))
        # Before anything is loaded.
        self._used = base.used_bytes if base is not None else device.used_bytes(self._device)
        self._timer = PhaseTimer(time.perf_counter)
        self._import_s = time.perf_counter() - imported_since
        self._ranks = RankMemory(self._runtime)

    def load(self) -> MeasuredLoad:
        """Load and return what was measured. Raises Unsupported as `Runtime.load` does."""
        mapped = mapped_file_bytes()
        artifacts.on_build = lambda kind: self._tell("phase", f"building {kind}")
        sampler = Sampler(self._used) if self._used is not None else None
        with self._meter.phase("load"), sampler or nullcontext():
            traits = self._loaded_traits()
        gained, mapped = self._meter.gained_bytes(), mapped_file_bytes() - mapped
        on_device = max(0, self._used()) if self._used is not None else 0
        doubt = (
            _ON_LOADED_BASE
            if self._base is not None
            else declared.doubt(traits.weight_bytes, None if gained is None else gained + on_device, max(0, mapped))
        )
        facts, config = self._cell.facts, self._cell.config.runtime
        held = loading.held_weights(config, facts.quantized, facts.is_gguf)
        source = loading.adapted_source(self._cell, self._runtime, config)
        wrong = _wrong(self._cell, traits, held, source)
        peak = sampler.highest if sampler is not None else None
        notes = (traits.dtype_note, self._mismatch, doubt, loading.adapter_note(self._runtime, source))
        is_remote = self._runtime.is_remote
        load = Load(
            import_s=round(self._import_s, 4),  # including pytest's collection
            phases_s=self._timer.seconds,
            peak_host_bytes=None if is_remote else self._meter.peaks_bytes["load"],
            peak_device_bytes=peak,
            import_bytes=self._meter.import_bytes,
            gained_host_bytes=None if is_remote else gained,
            weight_bytes=None if wrong else _whole(traits.weight_bytes),
            device=self._device,
            held=held,
            notes=[*traits.notes, *filter(None, notes)],
            **self._declared(traits),
        )
        loaded = LoadedRuntime(self._runtime, traits, self._device, self._used, peak, self._meter.baseline_bytes)
        return MeasuredLoad(loaded, load, wrong)

    def _loaded_traits(self) -> Traits:
        cell, base = self._cell, self._base
        if base is not None:
            return loading.switch_adapter(cell, base.runtime, cell.config.runtime, self._phase)
        hardware = cell.hardware(self._device)
        return loading.load(cell, self._runtime, cell.config.runtime, hardware, self._phase)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self._tell("phase", name)
        with self._ranks.phase(name), self._meter.loading_phase(name), self._timer.phase(name):
            yield

    def _declared(self, traits: Traits) -> JsonObject:
        """Return the fields of `Load` that the runtime declares."""
        return {
            "weight_disk_bytes": _whole(traits.weight_disk_bytes),
            "kv_dtype": traits.kv_dtype,
            "kv_bytes_per_token": _whole(traits.kv_bytes_per_token),
            "ranks": self._ranks.of_each_rank(traits),
            "dtype": traits.dtype,
            "build_phases": sorted(traits.build_phases),
            "artifacts": dict(artifacts.tally),
            "dtype_note": traits.dtype_note,
            "caches_prompts": traits.caches_prompts,
            "batch_tokens": _whole(traits.batch_tokens),
            "takes_whole_requests": not isinstance(self._runtime, Runtime),
        }


def _wrong(cell: Cell, traits: Traits, held: HeldWeights, source: ModelSource) -> str | None:
    """Return why what the runtime declares of its weights is wrong; None if it is not."""
    if traits.is_scripted:
        return None
    count = declared.parameters_of(cell, traits.weight_bytes, traits.dtype)
    if count is not None and source.adapter is not None and not source.adapter.is_merged:
        count += cell.adapter.parameters if cell.adapter is not None else 0
    return declared.wrong_declaration(traits, held, count)


def _whole(size: float | None) -> int | None:
    """Round a declared size, which may be a quotient, to whole bytes."""
    return None if size is None else round(size)
