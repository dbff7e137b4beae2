"""A benchmark of switches: the same work with each of them on and off, in turns, with the model loaded once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.metric import Metric, hidden, part
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.records.switches import CLOCKS, MEMORY, switch_key
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import Task

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from runtime_matrix.experiments.validation.ablation import Switch

C = TypeVar("C")
ENDS = ("", "_low", "_high")
_UNSUPPORTED = "unsupported"  # in place of factors: why a switch cannot be measured here


def _nothing(entry: OpenEntry) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Opened:
    """The switches, and what is measured besides: it fills the entry and returns lines for the file of the table."""

    switches: Sequence[Switch]
    more: Callable[[OpenEntry], Sequence[str]] = _nothing


class Switched(Task[C]):
    """Base class of the benchmarks of switches; `switches` names each with its key of the configuration, in order."""

    switches: ClassVar[Mapping[str, str]]
    heading: ClassVar[str]  # of the table
    conditions: ClassVar[str]  # of all turns, in one sentence
    measures_memory: ClassVar[bool] = False  # whether the memory peak of each turn is measured

    @abstractmethod
    def opened(self, bench: Bench, config: C) -> AbstractContextManager[Opened]:
        """Open what the switches need and yield them, in the order of `switches`."""

    @abstractmethod
    def options(self, config: C) -> tuple[int, str | None, JsonObject]:
        """Return the turns of on and off, the text in the names of the wanted switches, and the sizes of the work."""

    @override
    def further_keys(self, entry: Entry) -> Sequence[str]:
        """Return the keys of the factors of the switches that were measured, with their bounds."""
        names = [name for name in self.switches if name in entry.figures]
        return [f"{switch_key(name, measure)}{end}" for name in names for measure in self._measures for end in ENDS]

    @property
    def _measures(self) -> Sequence[str]:
        return (*CLOCKS, MEMORY) if self.measures_memory else CLOCKS

    @override
    def further(self, key: str) -> Metric | None:
        """Return the metric of a switch's factor or of one of its bounds."""
        for name in self.switches:
            for clock in self._measures:
                for end in ENDS:
                    if key == f"{switch_key(name, clock)}{end}":
                        return hidden(key, part(name, f"{clock}{end}"))
        return None

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: C, point: str) -> None:
        from runtime_matrix.experiments.validation.ablation import measure, write_table

        pairs, only, entry.parameters = self.options(config)
        with self.opened(bench, config) as opened:
            switches = [switch for switch in opened.switches if (only or "") in switch.name]
            works = {switch.name: switch.work for switch in switches if switch.work}
            entry.parameters |= {"work": works} if works else {}
            factors, reasons = {}, {}
            for number, switch in enumerate(switches, start=1):
                if switch.unsupported is not None:
                    reasons[switch.name] = switch.unsupported
                    entry.figures[switch.name] = {_UNSUPPORTED: switch.unsupported}
                    continue
                peak = partial(bench.peak_memory, "switch") if self.measures_memory else None
                result = measure(switch, pairs, peak=peak)
                factors[switch.name] = entry.figures[switch.name] = result.figures()
                entry.samples |= {f"{switch.name}: {side}": seconds for side, seconds in result.samples().items()}
                bench.report(number, len(switches))
            lines = opened.more(entry)
        path = bench.folder / f"{self.name}.md"
        keys = {name: f"{key}: {works[name]}" if name in works else key for name, key in self.switches.items()}
        write_table(keys, factors, path, bench.command, self.heading, self.conditions, reasons, self._measures)
        if lines:
            with path.open("a", encoding="utf-8") as file:
                file.write("\n".join(["", *lines]) + "\n")
