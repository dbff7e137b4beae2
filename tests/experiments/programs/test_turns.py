from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

from runtime_matrix.experiments.programs.figure import parse_figure
from runtime_matrix.experiments.programs.program import Program
from runtime_matrix.experiments.programs.turns import Comparison, Side


def _side(log: Path, name: str, **helpers: str) -> Side:
    script = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1]); print(1)"
    program = Program(f'{sys.executable} -I -S -c "{script}" {name}')
    shells = {key: Program(f"printf {text} >> {log}", shell="/bin/sh") for key, text in helpers.items()}
    return Side(program, **shells)


def test_the_two_programs_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    comparison = Comparison(_side(log, "a"), _side(log, "b"), [parse_figure("regex:[0-9]")], repeat=2, warm_up=1)
    turns = list(islice(comparison.turns(), 2))
    assert log.read_text() == "ab" + "abba" + "abba"  # warm-up, then two turns of two pairs
    assert turns[0].candidate == {"regex:[0-9]": [1.0, 1.0]}
    assert turns[0].log_ratio("regex:[0-9]") == 0
    assert turns[0].log_pairs("regex:[0-9]") == [(0, 0), (0, 0)]


def test_helpers_run_before_each_run_and_at_a_rebuild(tmp_path: Path) -> None:
    log = tmp_path / "log"
    sides = [_side(log, name, prepare="p", rebuild=name.upper()) for name in "ab"]
    comparison = Comparison(sides[0], sides[1], [parse_figure("wall")], warm_up=0)
    next(comparison.turns())
    assert log.read_text() == "papb"
    assert comparison.rebuild()
    assert sorted(log.read_text()[4:]) == ["A", "B"]


def test_equal_rebuild_commands_run_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    sides = [_side(log, name, rebuild="R") for name in "ab"]
    assert Comparison(sides[0], sides[1], []).rebuild()
    assert log.read_text() == "R"
    assert not Comparison(_side(log, "a"), _side(log, "b"), []).rebuild()
