"""Code generation scored by pass@k; programs run in the sandbox while the model generates more."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.schema import SandboxConfig
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import Decoding, Generated, TextPrompt
from runtime_matrix.experiments.problems.imports import check_imports
from runtime_matrix.experiments.problems.languages import check_language, language_of
from runtime_matrix.experiments.problems.loading import Problem, load, load_solutions, references
from runtime_matrix.experiments.problems.shown_tests import show_tests
from runtime_matrix.experiments.records.metric import Metric, figure, with_error
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.sandbox.packages import find
from runtime_matrix.experiments.strategies.damage import damaged
from runtime_matrix.experiments.strategies.examples import examples
from runtime_matrix.experiments.strategies.registry import StrategyChoice
from runtime_matrix.experiments.strategies.strategy import Visible
from runtime_matrix.experiments.tasks import strategy_scores
from runtime_matrix.experiments.tasks.bench import Bench, Figures, OnText, OpenEntry
from runtime_matrix.experiments.tasks.code_scores import items, pass_figures, total_cpu_s
from runtime_matrix.experiments.tasks.judging import Judge
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.strategy_metrics import STRATEGY_METRICS, gain_ratio_keys, gain_ratio_metric
from runtime_matrix.experiments.tasks.task import QualityTask, Score, Texts, rows_per_forward, same_texts

# Where a completion of a function body ends (Chen et al. 2021, arXiv 2107.03374, section 3).
STOP = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\nassert ", '\n"""')
_PASS_AT = re.compile(r"code_(plus_)?pass_at_(\d+)")
_SCORE = Score(metric="code_pass_at_1", prefix="code", noun="code", is_discrete=True, has_texts=True)


@dataclass(frozen=True, kw_only=True)
class CodeConfig(SampleOptions):
    """Options of `code`; `samples` are per problem, `limit` is in problems."""

    data: str
    fields: dict[str, str] | None
    solutions: str
    samples: int = least(1)
    k: tuple[int, ...] = least(1)
    temperature: float = least(0)
    top_p: float = least(0.001)
    max_new_tokens: int = least(1)
    shown_tests: int | None = least(1)
    limit: int | None = least(1)
    overlap: bool
    verdict_cache: bool


class Code(QualityTask[CodeConfig]):
    """Runs the tests of programming problems in a sandbox."""

    name = "code"
    title = "code"
    data = (
        "HumanEval's and MBPP's JSONL, gzipped or not; HumanEval+ and MBPP+ as EvalPlus releases them; MultiPL-E's in "
        "JavaScript, bash and Perl"
    )
    measures = "pass@1 greedy, unbiased pass@k of samples; with added tests beside that of the base tests"
    position = 60
    Config = CodeConfig
    bundled = "code.jsonl"
    takes_strategies = True
    score = _SCORE
    metrics = (
        Metric(
            key="code_pass_at_1",
            title="code pass@1",
            rank=2,
            better="high",
            display=with_error(3),
            read=figure("pass_at_1"),
            error="pass_at_1_standard_error",
            trend="code pass@1",
            smallest_step=0.005,
            about="Share of programs that pass their tests (HumanEval+, MBPP+: the base tests); ± one standard error.",
        ),
        Metric(
            key="code_plus_pass_at_1",
            title="code+ pass@1",
            rank=2,
            better="high",
            display=with_error(3),
            read=figure("plus_pass_at_1"),
            error="plus_pass_at_1_standard_error",
            trend="code+ pass@1",
            smallest_step=0.005,
            about="Share of programs that pass base and added tests of HumanEval+ or MBPP+; ± one standard error.",
        ),
        same_texts(_SCORE, "same code", "the programs"),
        rows_per_forward("code"),
        *STRATEGY_METRICS,
    )

    @override
    def check(self, config: CodeConfig) -> None:
        if len(set(config.k)) < len(config.k):
            raise UserError(f"benchmark.code.k={list(config.k)} has the same k twice")
        if config.solutions != "model":
            if config.temperature > 0:
                raise UserError("benchmark.code.temperature would be ignored: set benchmark.code.solutions=model")
            return
        if config.samples > 1 and config.temperature == 0:
            raise UserError(
                f"benchmark.code.samples={config.samples} at temperature 0 give {config.samples} equal texts: "
                "set benchmark.code.temperature, as in benchmark.code.temperature=0.8"
            )
        if max(config.k) > config.samples:
            raise UserError(
                f"benchmark.code.k={max(config.k)} needs as many samples: set benchmark.code.samples={max(config.k)}"
            )

    @override
    def check_data(self, config: CodeConfig) -> None:
        problems = self._problems(config)
        if config.solutions != "model":
            self._solutions(config, problems)

    @override
    def check_sandbox(self, config: CodeConfig, sandbox: SandboxConfig) -> None:
        find(sandbox.packages)
        problems = self._problems(config)
        check_language(self.path(config), problems)
        check_imports(self.path(config), problems, sandbox.packages)

    @override
    def texts(self, config: CodeConfig) -> Mapping[str, Sequence[Texts]]:
        return {self.name: [(problem.prompt,) for problem in self._problems(config)]}

    @override
    def further_keys(self, entry: Entry) -> Sequence[str]:
        return [
            *(f"code_{name}" for name in entry.figures if _PASS_AT.fullmatch(f"code_{name}")),
            *gain_ratio_keys(entry),
        ]

    @override
    def further(self, key: str) -> Metric | None:
        """Return the metric of pass@k for k > 1, or of a strategy's gain."""
        if (gain := gain_ratio_metric(key)) is not None:
            return gain
        match = _PASS_AT.fullmatch(key)
        if match is None or match[2] == "1":
            return None
        figure_name = key.removeprefix("code_")
        (first, *_) = self.metrics
        return replace(
            first,
            key=key,
            title=f"code{'+' if match[1] else ''} pass@{match[2]}",
            rank=6,
            better="",
            read=figure(figure_name),
            error=f"{figure_name}_standard_error",
            trend="",
            about=f"Share of problems where one of {match[2]} samples passes, unbiased estimate; ± one standard error.",
        )

    @override
    def check_strategy(self, config: CodeConfig, choice: StrategyChoice) -> None:
        if choice.strategy is None:
            return
        problems = self._problems(config)
        if choice.strategy.needs_python and language_of(problems) is not None:
            raise UserError(
                f"strategy={choice.name} runs Python; {self.path(config)} has {language_of(problems)} problems"
            )
        default = {"samples": 1, "temperature": 0.0, "k": (1,), "top_p": 1.0}
        for name, value in default.items():
            if getattr(config, name) != value:
                raise UserError(
                    f"benchmark.code.{name} would be ignored: strategy={choice.name} samples by its own options"
                )
        visible = self._visible(problems)
        choice.strategy.check(choice.options)
        if choice.strategy.needs_visible_tests(choice.options) and not any(problem.examples for problem in visible):
            raise UserError(
                f"strategy={choice.name} needs the tests that a prompt shows, and no prompt of "
                f"{self.path(config).name} shows any: set benchmark.code.shown_tests=2, or choose another strategy"
            )
        choice.strategy.prepare(choice.options, visible)

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: CodeConfig, point: str) -> None:
        if bench.strategy.strategy is not None:
            self._run_strategy(bench, entry, config)
            return
        problems = self._problems(config)
        with ExitStack() as stack:
            judge = Judge(bench, problems, config.verdict_cache, stack)
            start_s = time.perf_counter()  # what references return and take is measured before

            def on_text(item: int, sample: int, result: Generated) -> None:
                if config.overlap:
                    judge.start(item, result.text)

            completions, ids, report = self._completions(bench, config, problems, on_text)
            generated_s = time.perf_counter() - start_s
            verdicts = judge.of_completions(completions)
        bench.write_items(entry, items(problems, completions, ids, verdicts))
        fewest = min(map(len, verdicts))
        ks = [k for k in config.k if k <= fewest]
        entry.parameters = {"samples": fewest, "temperature": config.temperature, "solutions": config.solutions}
        if not report.get("cached_responses"):  # with cached responses it is not the time of generation
            entry.samples = {"generate_s": [generated_s], "total_s": [time.perf_counter() - start_s]}
        entry.figures = {
            **pass_figures(verdicts, ks),
            "new_tokens": sum(map(len, ids.values())),
            **report,
            "programs_cpu_s": total_cpu_s(verdicts),
            **judge.figures(),
        }

    def _run_strategy(self, bench: Bench, entry: OpenEntry, config: CodeConfig) -> None:
        problems = self._problems(config)
        given = None if config.solutions == "model" else self._solutions(config, problems)
        with ExitStack() as stack:
            judge = Judge(bench, problems, config.verdict_cache, stack)
            visible = self._visible(problems)
            result = strategy_scores.solve(
                bench, judge, bench.strategy, problems, visible, config.max_new_tokens, given
            )
        verdicts = [[verdict] for verdict in result.verdicts]
        bench.write_items(entry, items(problems, [[text] for text in result.texts], {}, verdicts))
        entry.parameters = {"strategy": bench.strategy.name, "solutions": config.solutions}
        entry.figures = {
            **pass_figures(verdicts, [1]),
            **result.figures,
            **judge.figures(),
        }

    def _visible(self, problems: Sequence[Problem]) -> list[Visible]:
        return [
            Visible(
                problem.id,
                problem.prompt,
                problem.head,
                problem.entry_point,
                tuple(examples(problem.prompt, problem.entry_point)) if problem.language is None else (),
                problem.stop or STOP,
            )
            for problem in problems
        ]

    def _problems(self, config: CodeConfig) -> list[Problem]:
        problems = sampled(load(self.path(config), config.limit, config.fields), config, self.name)
        if config.shown_tests is None:
            return problems
        if language_of(problems) is not None:
            raise UserError("benchmark.code.shown_tests shows tests in Python only: set it to null")
        return show_tests(problems, config.shown_tests)

    def _solutions(self, config: CodeConfig, problems: Sequence[Problem]) -> dict[str, list[str]]:
        """Return the given completions by problem id."""
        if config.solutions == "reference":
            return references(problems, self.path(config))
        if config.solutions == "damaged":
            given = references(problems, self.path(config))
            return {name: [damaged(text, zlib.crc32(name.encode()))[1] for text in given[name]] for name in given}
        return load_solutions(Path(config.solutions).expanduser(), problems)

    def _completions(
        self, bench: Bench, config: CodeConfig, problems: list[Problem], on_text: OnText
    ) -> tuple[list[list[str]], dict[tuple[str, int], tuple[int, ...]], Figures]:
        """Return completions per problem, token ids by (problem id, sample) if generated, and figures."""
        if config.solutions != "model":
            given = self._solutions(config, problems)
            return [given[problem.id] for problem in problems], {}, {}
        decoding = Decoding(
            config.max_new_tokens, problems[0].stop or STOP, config.samples, config.temperature, config.top_p
        )
        prompts = [TextPrompt(problem.id, problem.prompt) for problem in problems]
        answers = bench.answers(prompts, decoding, on_text)
        ids = {
            (problem.id, sample): generated.ids
            for problem, samples in zip(problems, answers.texts, strict=True)
            for sample, generated in enumerate(samples)
        }
        return [[generated.text for generated in samples] for samples in answers.texts], ids, answers.figures


TASK = Code()
