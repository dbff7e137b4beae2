"""The metrics of a judge, which a benchmark with a rubric has in addition when a judge is chosen."""

from __future__ import annotations

from runtime_matrix.experiments.records.metric import Metric, figure, hidden, number, with_error, with_interval
from runtime_matrix.experiments.tasks.task import Score

_WITH_BOUNDS = (
    *("judge_agreement_kappa", "judge_length_correlation", "judge_repeats_equal_ratio"),
    "judge_first_position_ratio",
)
_HIDDEN = (
    *("judge_agreement_ratio", "judge_position_flips_ratio", "judge_items", "judge_calls", "judge_retries"),
    *("judge_prompt_tokens", "judge_new_tokens", "judge_kept_replies", "judge_s"),
)


def judge_metrics(score: Score, title: str) -> tuple[Metric, ...]:
    """Return the metrics of a judge; `title` names the benchmark in the columns."""
    prefix = f"{score.prefix}_judge"
    with_ends = [(f"{name}{end}", end) for name in _WITH_BOUNDS for end in ("_low", "_high")]
    return (
        Metric(
            key=f"{prefix}_score",
            title=f"{title} judged",
            rank=3,
            better="high",
            display=with_error(3),
            read=figure("judge_score"),
            error="judge_score_standard_error",
            about="Mean score that the judge gives, 0 to 1, over the items with a verdict; of pairs the share that the "
            "answers win; ± one standard error.",
        ),
        Metric(
            key=f"{prefix}_no_verdict",
            title=f"{title} no verdict",
            rank=3,
            is_warning=True,
            display=number("{:.0f}"),
            read=figure("judge_no_verdict"),
            about="Items without a verdict, which count in no figure: the call failed, or the reply says nothing. The "
            "file of verdicts has each reason.",
        ),
        Metric(
            key=f"{prefix}_agreement_kappa",
            title=f"{title} judge's κ",
            rank=4,
            display=with_interval("{:.2f}"),
            read=figure("judge_agreement_kappa"),
            about="Cohen's κ of the judge and the benchmark's own verdict, with its 95 % interval: 1 is full "
            "agreement, 0 is chance.",
        ),
        Metric(
            key=f"{prefix}_repeats_equal_ratio",
            title=f"{title} judge repeats",
            rank=6,
            display=number("{:.1f} %", 100),
            read=figure("judge_repeats_equal_ratio"),
            about="Share of repeated calls that give the verdict of the first one.",
        ),
        Metric(
            key=f"{prefix}_length_correlation",
            title=f"{title} judge by length",
            rank=7,
            display=with_interval("{:+.2f}"),
            read=figure("judge_length_correlation"),
            about="Rank correlation of verdict and length of the answer among answers of equal truth, with its 95 % "
            "interval: far from 0, the judge favours long or short answers.",
        ),
        Metric(
            key=f"{prefix}_first_position_ratio",
            title=f"{title} judge takes the first",
            rank=7,
            display=number("{:.1f} %", 100),
            read=figure("judge_first_position_ratio"),
            about="Share of decided comparisons that the first answer wins, over both orders: other than 50 %, the "
            "position counts.",
        ),
        *(hidden(f"{score.prefix}_{name}", figure(name)) for name, _ in with_ends),
        *(hidden(f"{score.prefix}_{name}", figure(name)) for name in _HIDDEN),
    )
