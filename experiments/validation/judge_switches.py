"""The work of each switch of a judged evaluation: calls of a scripted judge, and loads of the bundled model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.judges import server
from runtime_matrix.experiments.judges.judge import REFERENCE, Question
from runtime_matrix.experiments.judges.judging import Judging
from runtime_matrix.experiments.judges.kept_replies import KeptReplies
from runtime_matrix.experiments.judges.runtime import BUNDLED_JUDGE
from runtime_matrix.experiments.judges.server import ServerConfig
from runtime_matrix.experiments.judges.templates import read_template
from runtime_matrix.experiments.tasks import extractive_qa
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA
from runtime_matrix.experiments.validation.ablation import Switch
from runtime_matrix.experiments.validation.one_process import answered
from runtime_matrix.experiments.validation.tasks.judge_switches import JUDGE_SWITCHES, JudgeSwitchesConfig

_MODEL = BUNDLED_DATA.parent / "model"
_NEW_TOKENS = 24
_LOADS_PAIRS = 3  # each turn starts as many processes as there are questions
_OF_LOADS = ("judge loaded once", "everything, judged answers")
Scores = list[float | None]
Work = Callable[[], Any]


@contextmanager
def opened_switches(bench: Bench, config: JudgeSwitchesConfig) -> Iterator[list[Switch]]:
    """Yield the switches, with the scripted judge in a child process."""
    command = [sys.executable, "-m", "runtime_matrix.experiments.validation.scripted_judge"]
    with subprocess.Popen(
        [*command, "--delay", str(config.delay_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = str(json.loads(process.stdout.readline())["url"])
            works = _Works(bench, config, url)
            names = [name for name in JUDGE_SWITCHES if config.loads or name not in _OF_LOADS]
            yield [works.switch(name) for name in names]
        finally:
            process.stdin.close()  # which ends it


class _Works:
    """The work of the switches."""

    def __init__(self, bench: Bench, config: JudgeSwitchesConfig, url: str):
        self._config, self._url, self._text = config, url, bench.require_text()
        self._kept = bench.folder / "judge-switches.sqlite"
        self._items = extractive_qa.load(BUNDLED_DATA / "extractive_qa.json", max(config.questions, config.loads))
        self._questions = [
            Question(item.id, item.text, item.answers[0] if at % 3 else "nothing", item.answers)
            for at, item in enumerate(self._items[: config.questions])
        ]

    def switch(self, name: str) -> Switch:
        """Return a switch with its work on and off."""
        config, judge = self._config, self._judge
        works: dict[str, tuple[Work, Work]] = {
            "four judge calls at once": (partial(judge, 4), partial(judge, 1)),
            "sixteen judge calls at once": (partial(judge, 16), partial(judge, 1)),
            "kept judge replies": (partial(judge, 16, path=self._kept), partial(judge, 16)),
            "judge loaded once": (self._judge_in_one, self._judge_in_each),
            "everything, judged answers": (self._all_at_once, self._one_by_one),
        }
        is_load = name in _OF_LOADS
        size = f"{config.loads if is_load else config.questions} questions"
        delay = "" if name == "judge loaded once" else f", a judge of {config.delay_s:g} s"
        return Switch(name, *works[name], _LOADS_PAIRS if is_load else None, size + delay)

    def _judge(self, concurrency: int, questions: Sequence[Question] | None = None, path: Path | None = None) -> Scores:
        options = _options(self._url, concurrency)
        with server.JUDGE.opened(options, _no_model) as asker:
            kept = KeptReplies(path, {"judge": "server", **asker.identity})
            judging = Judging(asker, options, read_template(options.template), kept, resumes=False)
            asked = self._questions if questions is None else questions
            verdicts = judging.verdicts(asked, {}, lambda done, total: None)
            kept.close()
        return [verdict.score for verdict in verdicts]

    # A judge in a process of its own

    def _judge_prompts(self) -> list[list[int]]:
        template = read_template("right_or_wrong")
        prompts = []
        for item in self._items[: self._config.loads]:
            values = {"question": item.text, "reference": item.answers[0], "answer": item.answers[0]}
            prompts.append(list(self._text.prompt(template.prompt(values), 2)[0]))  # the judge has this tokenizer
        return prompts

    def _judge_in_one(self) -> list[list[int]]:
        return answered(BUNDLED_JUDGE, self._judge_prompts(), 2)

    def _judge_in_each(self) -> list[list[int]]:
        return [reply for prompt in self._judge_prompts() for reply in answered(BUNDLED_JUDGE, [prompt], 2)]

    # Answers, and verdicts on them

    def _prompts(self) -> list[list[int]]:
        items = self._items[: self._config.loads]
        return [list(self._text.prompt(extractive_qa.prompt(item), _NEW_TOKENS)[0]) for item in items]

    def _asked(self, answers: Sequence[Sequence[int]]) -> list[Question]:
        texts = [self._text.decode(ids).partition("\n")[0].strip() for ids in answers]
        pairs = zip(self._items, texts, strict=False)
        return [Question(item.id, item.text, text, item.answers) for item, text in pairs]

    def _all_at_once(self) -> Scores:
        return self._judge(16, self._asked(answered(_MODEL, self._prompts(), _NEW_TOKENS)))

    def _one_by_one(self) -> Scores:
        scores: Scores = []
        for number, prompt in enumerate(self._prompts()):
            answers = [*([[]] * number), *answered(_MODEL, [prompt], _NEW_TOKENS)]
            scores += self._judge(1, self._asked(answers)[number:])
        return scores


def _options(url: str, concurrency: int) -> ServerConfig:
    return ServerConfig(
        template=REFERENCE,
        lowest=1.0,
        highest=5.0,
        right_from=4.0,
        words=None,
        against=REFERENCE,
        max_new_tokens=16,
        seed=0,
        repeats=1,
        cache=True,
        url=url,
        model="scripted",
        endpoint="chat",
        concurrency=concurrency,
        tries=1,
        timeout_s=60.0,
        key_variable=None,
    )


def _no_model(runtime: str, model: str) -> Any:
    raise AssertionError("a served judge loads no model")
