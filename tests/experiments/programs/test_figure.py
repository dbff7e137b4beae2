from __future__ import annotations

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.programs.figure import parse_figure
from runtime_matrix.experiments.programs.program import Program, Run, Usage

PROGRAM = Program("bench")


def _run(output: str | None) -> Run:
    return Run(Usage(wall_s=2.0, cpu_s=1.5, peak_bytes=1000, exit_code=0), output)


@pytest.mark.parametrize(
    ("text", "output", "value"),
    [
        ("wall", None, 2.0),
        ("cpu", None, 1.5),
        ("memory", None, 1000.0),
        ("json:a.b", '{"a": {"b": 3}}', 3.0),
        ("json:runs.-1.s", 'starting…\n{"runs": [{"s": 1}, {"s": 0.5}]}\ndone', 0.5),
        ("regex:([0-9.]+) tokens/s", "1 tokens/s\n2.5 tokens/s", 2.5),
        ("regex:^[0-9,]+$", "some text\n1,234\n", 1234.0),
    ],
)
def test_a_figure_is_read(text: str, output: str | None, value: float) -> None:
    assert parse_figure(text).of(PROGRAM, _run(output)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wal", "metric wal is unknown; did you mean 'wall'?"),
        ("json:", "metric json: is unknown"),
        ("regex:(", "the pattern is not valid"),
        ("regex:(a)(b)", "the pattern has 2 groups"),
    ],
)
def test_unknown_figures(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        parse_figure(text)


@pytest.mark.parametrize(
    ("text", "output", "message"),
    [
        ("json:a", "hello", "`bench` prints no JSON: 'hello'"),
        ("json:a", "", "`bench` prints no JSON: nothing"),
        ("json:latency", '{"latencies": 1}', "`bench`: the JSON that it prints has no latency; did you mean"),
        ("json:a.b", '{"a": [1]}', "`bench`: a has no b"),
        ("json:a.5", '{"a": [1]}', "`bench`: a has no 5"),
        ("json:a", '{"a": "fast"}', "`bench`: a is no number: '\"fast\"'"),
        ("json:a", '{"a": true}', "`bench`: a is no number: 'true'"),
        ("json:a", '{"a": NaN}', "`bench`: json:a is nan; a ratio needs numbers above 0"),
        ("json:a", '{"a": 0}', "`bench`: json:a is 0; a ratio needs numbers above 0"),
        ("json:a", "[" * 100_000, "`bench` prints no JSON"),
        ("regex:x=(.*)", "y=1", "`bench` prints nothing that matches x=(.*): 'y=1'"),
        ("regex:x=(.*)", "x=soon", "`bench`: x=(.*) matches no number: 'soon'"),
    ],
)
def test_outputs_without_the_number(text: str, output: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_figure(text).of(PROGRAM, _run(output))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
