"""What each switch of the evaluation core gives: on against off in turns, the model loaded once."""

from runtime_matrix.experiments.benchmarks.ablation import Ablation, write_table
from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry


def test_ablation(bench: Bench, entry: OpenEntry) -> None:
    asked = bench.cell.config.benchmark.ablation
    assert asked is not None
    ablation = Ablation(bench, asked)
    entry.parameters = {"pairs": asked.pairs, "questions": asked.questions, "texts": asked.texts}
    switches = [switch for switch in ablation.switches() if (asked.only or "") in switch.name]
    factors = {}
    for number, switch in enumerate(switches, start=1):
        result = ablation.measure(switch)
        factors[switch.name] = result.factor
        entry.figures[switch.name] = vars(result.factor)
        entry.samples |= {f"{switch.name}: on_s": result.on_s, f"{switch.name}: off_s": result.off_s}
        bench.on_items(number, len(switches))
    write_table(switches, factors, bench.folder / "ablation.md", bench.cell.command)
