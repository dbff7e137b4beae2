"""Asks a judge about answers: prompts, repeats, both orders of a pair, and what each reply says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime_matrix.experiments.judges.judge import Asker, AskingConfig, Failure, Knowing, NoReply, Question, Reply
from runtime_matrix.experiments.judges.kept_replies import KeptReplies
from runtime_matrix.experiments.judges.reading import Unreadable, Winner, read_score, read_winner, says_right
from runtime_matrix.experiments.judges.templates import Template

OnProgress = Callable[[int, int], None]  # (answered, all)
_POINTS: Mapping[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one answer: one line of the file of verdicts."""

    id: str
    score: float | None  # 0 to 1, of a pair 1 if the answer is better in both orders; None: no verdict
    says_right: bool | None  # None: no verdict, or the judge compares
    failure: Failure | None  # why there is no verdict
    reason: str | None  # likewise, in one line
    answer: str
    is_right: bool | None  # the benchmark's verdict
    replies: tuple[str, ...] = ()  # of the first repeat
    orders: tuple[float, ...] = ()  # of a pair: the score with the answer first, and with it second
    repeats: tuple[float | None, ...] = ()  # scores of the repeats after the first; None: no verdict
    prompt_tokens: int | None = None  # of all its replies; None: not reported for each
    new_tokens: int | None = None


@dataclass
class Work:
    """What the verdicts took."""

    prompts: int = 0  # without equal ones
    kept: int = 0  # replies that were kept from before
    failed_calls: int = 0
    equal_pairs: int = 0  # pairs of the same text, which are ties without a call
    counters: Mapping[str, int] = field(default_factory=dict)  # of the asker
    note: str | None = None  # what was wrong with the kept replies


@dataclass(frozen=True)
class _Ask:
    """One prompt about a question."""

    question: int
    repeat: int
    is_second: bool  # the answer is the second of a pair
    prompt: str


def known_verdicts(judge: Knowing[Any], config: Any, questions: Sequence[Question]) -> list[Verdict]:
    """Return the verdicts of a judge that needs no model."""
    verdicts = []
    for question in questions:
        score = judge.score(question, config)
        failure: Failure | None = "unparsable" if score is None else None
        reason = "the item has no reference" if score is None else None
        says = None if score is None else score >= 0.5
        verdicts.append(Verdict(question.id, score, says, failure, reason, question.answer, question.is_right))
    return verdicts


class Judging:
    """Asks a judge by a template. `rivals` are the other answers of pairs, by id."""

    def __init__(self, asker: Asker, config: AskingConfig, template: Template, kept: KeptReplies, resumes: bool):
        self._asker, self._config, self._template = asker, config, template
        self._kept, self._resumes = kept, resumes
        self.work = Work()

    def verdicts(
        self, questions: Sequence[Question], rivals: Mapping[str, str], on_progress: OnProgress
    ) -> list[Verdict]:
        """Return one verdict for each question, in their order."""
        asks = [ask for index, question in enumerate(questions) for ask in self._asks(index, question, rivals)]
        replies = self._replies([(ask.prompt, ask.repeat) for ask in asks], on_progress)
        by_question: dict[int, list[tuple[_Ask, Reply | NoReply]]] = {}
        for ask, reply in zip(asks, replies, strict=True):
            by_question.setdefault(ask.question, []).append((ask, reply))
        self.work.counters, self.work.note = self._asker.counters(), self._kept.note
        return [
            self._verdict(question, by_question.get(index, []), rivals.get(question.id))
            for index, question in enumerate(questions)
        ]

    def _asks(self, index: int, question: Question, rivals: Mapping[str, str]) -> list[_Ask]:
        values = {"question": question.question, "reference": "\n".join(question.references)}
        if self._template.needs_reference and not question.references:
            return []
        if not self._template.is_pairwise:
            prompts = [(False, self._template.prompt({**values, "answer": question.answer}))]
        else:
            rival = rivals.get(question.id)
            if rival is None or rival == question.answer:
                return []
            pairs = ((False, question.answer, rival), (True, rival, question.answer))
            prompts = [
                (is_second, self._template.prompt({**values, "answer_a": first, "answer_b": second}))
                for is_second, first, second in pairs
            ]
        return [
            _Ask(index, repeat, is_second, prompt)
            for repeat in range(self._config.repeats)
            for is_second, prompt in prompts
        ]

    def _replies(self, wanted: Sequence[tuple[str, int]], on_progress: OnProgress) -> list[Reply | NoReply]:
        """Return the reply to each (prompt, repeat); equal ones are asked once.

        Replies of repeats are not read from those that were kept, as they would repeat nothing, unless a run resumes.
        """
        keys = [self._kept.key(prompt, repeat) for prompt, repeat in wanted]
        by_key = dict(zip(keys, wanted, strict=True))
        readable = [key for key, (_, repeat) in by_key.items() if repeat == 0 or self._resumes]
        replies: dict[bytes, Reply | NoReply] = dict(self._kept.get(readable))
        missing = [key for key in by_key if key not in replies]
        self.work.prompts, self.work.kept = len(by_key), len(replies)

        def on_reply(index: int, reply: Reply | NoReply) -> None:
            if isinstance(reply, Reply):
                self._kept.put(missing[index], reply)
            else:
                self.work.failed_calls += reply.failure == "call failed"
            replies[missing[index]] = reply
            on_progress(len(replies), len(by_key))

        if missing:
            self._asker.ask([by_key[key][0] for key in missing], on_reply)
        return [replies[key] for key in keys]

    def _verdict(self, question: Question, asked: Sequence[tuple[_Ask, Reply | NoReply]], rival: str | None) -> Verdict:
        if not asked:
            return self._unasked(question, rival)
        first = [(ask, reply) for ask, reply in asked if ask.repeat == 0]
        failure: Failure | None = None
        reason = score = None
        orders: tuple[float, ...] = ()
        try:
            score, orders = self._score(first)
        except Unreadable as error:
            failure, reason = error.failure, str(error)
        is_single = not self._template.is_pairwise
        prompt_tokens, new_tokens = (
            _total([getattr(reply, name) for _, reply in asked if isinstance(reply, Reply)])
            for name in ("prompt_tokens", "new_tokens")
        )
        return Verdict(
            id=question.id,
            score=score,
            says_right=says_right(score, self._config) if is_single and score is not None else None,
            failure=failure,
            reason=reason,
            answer=question.answer,
            is_right=question.is_right,
            replies=tuple(reply.text for _, reply in first if isinstance(reply, Reply)),
            orders=orders,
            repeats=tuple(self._repeat(asked, repeat) for repeat in range(1, self._config.repeats)),
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
        )

    def _unasked(self, question: Question, rival: str | None) -> Verdict:
        is_tie = self._template.is_pairwise and rival == question.answer
        self.work.equal_pairs += is_tie
        reason = None if is_tie else "there is no reference to judge by"
        if self._template.is_pairwise and not is_tie and self._config.against != "reference":
            reason = f"{os.path.basename(self._config.against)} has no answer to it"
        score = 0.5 if is_tie else None
        failure: Failure | None = None if is_tie else "not asked"
        return Verdict(question.id, score, None, failure, reason, question.answer, question.is_right)

    def _repeat(self, asked: Sequence[tuple[_Ask, Reply | NoReply]], repeat: int) -> float | None:
        try:
            return self._score([(ask, reply) for ask, reply in asked if ask.repeat == repeat])[0]
        except Unreadable:
            return None

    def _score(self, asked: Sequence[tuple[_Ask, Reply | NoReply]]) -> tuple[float, tuple[float, ...]]:
        """Return the score, and of a pair the score in each order. Unreadable if a reply is missing or says nothing."""
        orders = []
        for ask, reply in asked:
            if isinstance(reply, NoReply):
                raise Unreadable(reply.failure, reply.reason)
            if not self._template.is_pairwise:
                return read_score(reply.text, self._config), ()
            points = _POINTS[read_winner(reply.text, self._config)]
            orders.append(1.0 - points if ask.is_second else points)
        return sum(orders) / len(orders), tuple(orders)


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None
