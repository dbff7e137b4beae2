"""What the matrix says of strategies for programs, in a sentence, and the page of each."""

from __future__ import annotations

from collections.abc import Sequence

from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Entry

GAIN = "code_gain_over_greedy"


def strategies_sentence(rows: Sequence[Row]) -> str | None:
    """Return which strategy gained most over greedy, whether beyond its interval, and its price; None without one."""
    gains = [(gain, row) for row in rows if (gain := row.get(GAIN)) is not None]
    if not gains:
        return None
    gain, row = max(gains, key=lambda pair: pair[0])
    low, high = row.get(f"{GAIN}_low"), row.get(f"{GAIN}_high")
    name = row.strategy if row.variant is None else row.variant.removeprefix("strategy=")
    interval = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    if low is None or low <= 0:
        return (
            f"No strategy gains beyond its interval over greedy; the most is {gain:+.3f}{interval} of pass@1 by {name}."
        )
    new, greedy = row.get("code_new_tokens_per_problem"), row.get("code_greedy_new_tokens_per_problem")
    price = f", for {new / greedy:.1f}× the tokens" if new and greedy else ""
    return f"{name} gains {gain:+.3f}{interval} of pass@1 over greedy{price}."


def strategy_figures(entries: Sequence[Entry]) -> list[tuple[str, float]]:
    """Return what only this strategy's record has: pass@1 at each stage, its tests, and its own figures."""
    entry = next((entry for entry in entries if "strategy" in entry.parameters), None)
    if entry is None:
        return []
    stages = [(f"pass@1, {name}", value) for name, value in entry.table("stage_pass_at_1").items()]
    names = {
        "greedy_pass_at_1": "pass@1, greedy",
        "repaired_problems": "problems repaired",
        "spoiled_problems": "problems spoiled",
        "generated_tests_per_problem": "generated tests per problem",
        "right_generated_tests": "generated tests that the reference passes",
        "problems_without_examples": "problems without visible tests",
    }
    shared = [(title, entry.figure(name)) for name, title in names.items()]
    own = [(name.replace("_", " "), value) for name, value in entry.table("own_figures").items()]
    return [(title, value) for title, value in (*shared, *stages, *own) if value is not None]
