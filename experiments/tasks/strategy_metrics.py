"""The metrics of strategies, which the code benchmark has in addition when a strategy is chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime_matrix.experiments.records.metric import UNKNOWN, Metric, figure, hidden, number, with_error, with_interval
from runtime_matrix.experiments.records.schema import Entry

_ENDS = ("", "_low", "_high")
_GAIN_RATIO = re.compile(r"code_gain_ratio_of_(\w+?)(_low|_high)?")


def _shown(key: str, title: str, rank: int, pattern: str, about: str) -> Metric:
    name = key.removeprefix("code_")
    return Metric(key=key, title=title, rank=rank, display=number(pattern), read=figure(name), about=about)


def _leaks(entry: Entry) -> float | None:
    """Return 1 if the answers know hidden tests, 0 if a strategy's do not, and None without a strategy."""
    if "strategy_leaks" not in entry.figures:
        return None
    return float(entry.figures["strategy_leaks"] is not None)


STRATEGY_METRICS = (
    Metric(
        key="code_leaks",
        title="leaks",
        rank=2,
        is_warning=True,
        display=lambda row, key: {None: UNKNOWN, 0.0: "no", 1.0: "YES: knows hidden tests"}.get(row.get(key), UNKNOWN),
        read=_leaks,
        about="Whether the strategy was told of the tests that judge it. Such a row says nothing of other problems.",
    ),
    Metric(
        key="code_gain_over_greedy",
        title="gain over greedy",
        rank=3,
        display=with_interval("{:+.3f}"),
        read=figure("gain_over_greedy"),
        about="pass@1 of the strategy's answers minus that of greedy texts, paired by problem, with its 95 % interval.",
    ),
    *(hidden(f"code_gain_over_greedy{end}", figure(f"gain_over_greedy{end}")) for end in _ENDS[1:]),
    _shown(
        *("code_new_tokens_per_problem", "tokens per problem", 4, "{:.0f}"),
        "New tokens that the strategy generated per problem.",
    ),
    _shown(
        *("code_greedy_new_tokens_per_problem", "tokens, greedy", 7, "{:.0f}"),
        "New tokens of the greedy text per problem.",
    ),
    _shown(
        *("code_prompt_tokens_per_problem", "prompt tokens per problem", 7, "{:.0f}"),
        "Tokens of the strategy's prompts, and of texts whose log-probability it asked for, per problem.",
    ),
    Metric(
        key="code_plain_pass_at_budget",
        title="plain pass@k, same tokens",
        rank=5,
        display=with_error(3),
        read=figure("plain_pass_at_budget"),
        error="plain_pass_at_budget_standard_error",
        about="Share of problems that any of as many plain samples solves as the strategy's tokens would buy: a bound "
        "on what a choice among them can reach. n/a if that is more samples than strategy.plain_samples.",
    ),
    _shown(
        *("code_plain_pass_at_1", "plain pass@1", 6, "{:.3f}"),
        "Share of plain samples that pass: what one sample gives.",
    ),
    _shown(
        *("code_any_candidate_passes", "any candidate", 6, "{:.3f}"),
        "Share of problems that any text passes which the strategy could have chosen.",
    ),
    _shown(
        *("code_programs_per_problem", "programs per problem", 6, "{:.1f}"),
        "Programs that the strategy ran per problem, without the final verdict.",
    ),
    _shown(
        *("code_programs_cpu_s_per_problem", "programs' CPU s per problem", 7, "{:.3f}"),
        "CPU seconds of these programs per problem.",
    ),
    _shown(
        *("code_engine_cpu_s_per_problem", "CPU s per problem", 7, "{:.3f}"),
        "CPU seconds of generating and scoring per problem; n/a if texts came from the response cache.",
    ),
    _shown(
        *("code_wall_s_per_problem", "wall s per problem", 7, "{:.3f}"),
        "Wall seconds of the strategy per problem, all problems together; n/a if texts came from the response cache.",
    ),
)


def gain_ratio_keys(entry: Entry) -> Sequence[str]:
    """Return the keys of a strategy's gain as a factor, which name the strategy, as claims do."""
    if "gain_ratio" not in entry.figures:
        return []
    return [f"code_gain_ratio_of_{entry.parameters.get('strategy')}{end}" for end in _ENDS]


def gain_ratio_metric(key: str) -> Metric | None:
    """Return the metric of a key of `gain_ratio_keys`; None for any other key."""
    match = _GAIN_RATIO.fullmatch(key)
    if match is None:
        return None
    strategy, name = match[1], f"gain_ratio{match[2] or ''}"
    return hidden(key, lambda entry: entry.figure(name) if entry.parameters.get("strategy") == strategy else None)
