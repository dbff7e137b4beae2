"""The benchmark of the evaluation core's switches: on against off in turns, with the model loaded once."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """The options of the ablation."""

    pairs: int = least(1)  # turns of on and off
    questions: int = least(8)
    texts: int = least(1)  # of each kind
    only: str | None = None  # switches whose name contains this text


class Ablation(Task[AblationConfig]):
    """Each switch of the evaluation core, on and off."""

    name = "ablation"
    title = "ablation"
    data = "the bundled data"
    measures = "the factor that each switch of the evaluation core gives"
    position = 95
    Config = AblationConfig

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: AblationConfig, point: str) -> None:
        from runtime_matrix.experiments.validation.ablation import Switches, measure, write_table

        switches = Switches(bench, config).all()
        entry.parameters = {"pairs": config.pairs, "questions": config.questions, "texts": config.texts}
        switches = [switch for switch in switches if (config.only or "") in switch.name]
        factors = {}
        for number, switch in enumerate(switches, start=1):
            result = measure(switch, config.pairs)
            factors[switch.name] = result.factor
            entry.figures[switch.name] = vars(result.factor)
            entry.samples |= {f"{switch.name}: on_s": result.on_s, f"{switch.name}: off_s": result.off_s}
            bench.report(number, len(switches))
        write_table(switches, factors, bench.folder / "ablation.md", bench.command)


TASK = Ablation()
