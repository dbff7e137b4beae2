"""Judges the answers of a benchmark that has a rubric: verdicts by item in a file, and the figures made of them."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.judges.judge import FAILURES, REFERENCE, Asking, AskingConfig, Knowing, Question
from runtime_matrix.experiments.judges.judging import Judging, Verdict, Work, known_verdicts
from runtime_matrix.experiments.judges.kept_replies import KeptReplies
from runtime_matrix.experiments.judges.templates import read_template
from runtime_matrix.experiments.records.row import Figures
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.raters import kappa, rank_correlation
from runtime_matrix.experiments.statistics.shares import exact_proportion
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import QualityTask, Rubric

_CACHE = "judge.sqlite"


def judge_entry(bench: Bench, entry: OpenEntry, task: QualityTask[object]) -> None:
    """Add a judge's verdicts to an entry whose items are written; nothing without a judge or a rubric."""
    judge, config = bench.judge.judge, bench.judge.options
    if judge is None or task.rubric is None or entry.items_file is None:
        return
    start_s = time.perf_counter()
    questions = read_questions(bench.folder / entry.items_file, task.rubric)
    work = Work()
    if isinstance(judge, Knowing):
        verdicts = known_verdicts(judge, config, questions)
    else:
        assert isinstance(judge, Asking)
        verdicts, work = _asked(bench, judge, config, questions, entry.items_file)
        entry.parameters["judge_template_digest"] = _digest(config.template)
    entry.parameters["verdicts_file"] = bench.write_verdicts(entry, verdicts)
    clusters = [question.cluster or question.id for question in questions]
    found = figures(verdicts, clusters)
    if found["judge_note"] is not None:
        found["judge_note"] = f"{task.title}: {found['judge_note']}"
    entry.figures |= found
    if isinstance(judge, Asking):
        entry.figures |= _of_work(verdicts, work)
    entry.figures["judge_s"] = None if work.kept else time.perf_counter() - start_s


def read_questions(path: Path, rubric: Rubric) -> list[Question]:
    """Return the items of a file as questions."""
    return [_question(item, rubric) for _, item in data_files.json_lines(path, "the items of a benchmark")]


def figures(verdicts: Sequence[Verdict], clusters: Sequence[str]) -> JsonObject:
    """Return the figures of verdicts: only items with a verdict count, and without any each figure is None."""
    known = [
        (verdict, cluster) for verdict, cluster in zip(verdicts, clusters, strict=True) if verdict.score is not None
    ]
    scores, names = [verdict.score or 0.0 for verdict, _ in known], [cluster for _, cluster in known]
    missing = len(verdicts) - len(known)
    return {
        "judge_score": sum(scores) / len(scores) if scores else None,
        "judge_score_standard_error": standard_error(scores, names),
        "judge_items": len(known),
        "judge_no_verdict": missing,
        "judge_failures": {name: sum(verdict.failure == name for verdict in verdicts) for name in FAILURES},
        "judge_note": _note(verdicts) if missing else None,
        **_agreement([verdict for verdict, _ in known], names),
        **_bias([verdict for verdict, _ in known]),
        **_repeats(verdicts),
    }


def _asked(
    bench: Bench, judge: Asking[AskingConfig], config: AskingConfig, questions: Sequence[Question], items_file: str
) -> tuple[list[Verdict], Work]:
    template = read_template(config.template)
    rivals = {question.id: question.references[0] for question in questions if question.references}
    if config.against != REFERENCE:
        rivals = _answers(Path(config.against).expanduser() / items_file)
    with judge.opened(config, bench.local_model) as asker:
        keeps = config.cache and bench.keeps_replies
        kept = KeptReplies(bench.artifacts / _CACHE if keeps else None, {"judge": judge.name, **asker.identity})
        try:
            judging = Judging(asker, config, template, kept, bench.resumes)
            return judging.verdicts(questions, rivals, bench.report), judging.work
        finally:
            kept.close()


def _answers(path: Path) -> dict[str, str]:
    """Return the answers of another cell by id. UserError for a file that is no file of items."""
    answers = {}
    for where, item in data_files.json_lines(path, "the folder of a record with answers, as judge.against"):
        name, text = item.get("id"), item.get("text")
        if not isinstance(name, str | int) or not isinstance(text, str):
            raise UserError(f"{where}: an item has no id or no text: judge.against needs answers of this benchmark")
        answers[str(name)] = text
    return answers


def _question(item: JsonObject, rubric: Rubric) -> Question:
    references = item.get(rubric.references) or ()
    is_right = item.get(rubric.is_right) if rubric.is_right is not None else None
    cluster = item.get(rubric.cluster) if rubric.cluster is not None else None
    return Question(
        id=str(item["id"]),
        question=str(item[rubric.question]),
        answer=str(item[rubric.answer]),
        references=(references,) if isinstance(references, str) else tuple(map(str, references)),
        is_right=None if is_right is None else bool(is_right),
        cluster=None if cluster is None else str(cluster),
    )


def _agreement(verdicts: Sequence[Verdict], clusters: Sequence[str]) -> JsonObject:
    """Return κ and the share of agreement with the benchmark's own verdicts; None where they are not known."""
    triples = [
        (verdict.says_right, verdict.is_right, cluster)
        for verdict, cluster in zip(verdicts, clusters, strict=True)
        if verdict.says_right is not None and verdict.is_right is not None
    ]
    says, right = [bool(one) for one, _, _ in triples], [bool(one) for _, one, _ in triples]
    interval = kappa(says, right, [cluster for _, _, cluster in triples]) if triples else None
    same = sum(one == other for one, other in zip(says, right, strict=True))
    return {
        **_with_bounds("judge_agreement_kappa", interval),
        "judge_agreement_ratio": same / len(triples) if triples else None,
        "judge_agreement_reason": None if interval is not None else _why_no_kappa(says, right),
    }


def _why_no_kappa(says: Sequence[bool], right: Sequence[bool]) -> str:
    if not says:
        return "no item has both a verdict of the judge and one of the benchmark"
    return f"all {len(says)} answers are {'right' if right[0] else 'wrong'} for judge and benchmark alike"


def _bias(verdicts: Sequence[Verdict]) -> JsonObject:
    """Return how verdicts follow the length of answers of equal truth, and how winners follow their position."""
    scores = [verdict.score or 0.0 for verdict in verdicts]
    lengths = [float(len(verdict.answer)) for verdict in verdicts]
    length = rank_correlation(scores, lengths, [verdict.is_right for verdict in verdicts]) if verdicts else None
    pairs = [verdict.orders for verdict in verdicts if len(verdict.orders) == 2]
    # The score of the answer when it is first, and that of the other one when that is first.
    firsts = [first for one, other in pairs for first in (one, 1.0 - other) if first != 0.5]
    wins = sum(first == 1.0 for first in firsts)
    return {
        **_with_bounds("judge_length_correlation", length),
        "judge_position_flips_ratio": sum(one != other for one, other in pairs) / len(pairs) if pairs else None,
        **_with_bounds("judge_first_position_ratio", exact_proportion(wins, len(firsts)) if firsts else None),
    }


def _repeats(verdicts: Sequence[Verdict]) -> JsonObject:
    """Return the share of repeats with the verdict of the first call; repeats without a verdict do not count."""
    pairs = [(verdict.score, again) for verdict in verdicts for again in verdict.repeats]
    known = [(first, again) for first, again in pairs if first is not None and again is not None]
    same = sum(first == again for first, again in known)
    return {
        "judge_repeats": len(known) if pairs else None,
        **_with_bounds("judge_repeats_equal_ratio", exact_proportion(same, len(known)) if known else None),
    }


def _of_work(verdicts: Sequence[Verdict], work: Work) -> JsonObject:
    replied = [verdict for verdict in verdicts if verdict.replies or verdict.prompt_tokens is not None]
    counts = {name: [getattr(verdict, name) for verdict in replied] for name in ("prompt_tokens", "new_tokens")}
    return {
        **{f"judge_{name}": sum(values) if values and None not in values else None for name, values in counts.items()},
        "judge_prompts": work.prompts,
        "judge_kept_replies": work.kept,
        "judge_failed_calls": work.failed_calls,
        "judge_equal_pairs": work.equal_pairs,
        "judge_calls": work.counters.get("calls"),
        "judge_retries": work.counters.get("retries"),
        "judge_cache_note": work.note,
    }


def _note(verdicts: Sequence[Verdict]) -> str:
    """Return how many items have no verdict, and the most frequent reason for each failure."""
    failed = [verdict for verdict in verdicts if verdict.failure is not None]
    parts = []
    for name in FAILURES:
        reasons = Counter(verdict.reason or name for verdict in failed if verdict.failure == name)
        if reasons:
            (reason, _), *others = reasons.most_common()
            more = " and others" if others else ""
            parts.append(f"{reasons.total()} {name} ({reason.replace('; ', ', ')}{more})")
    return f"the judge gave no verdict on {len(failed)} of {len(verdicts)} items: {', '.join(parts)}"


def _with_bounds(name: str, interval: Interval | None) -> Figures:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _digest(template: str) -> str:
    return hashlib.sha256(read_template(template).text.encode()).hexdigest()[:16]
