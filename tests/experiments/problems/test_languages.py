from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.problems.languages import check_language, language_of
from tests.experiments.sandbox.solved import SOLVED, STOP
from tests.experiments.test_mistakes import mistake

ITEMS = {name: [solved.item() for solved in SOLVED if solved.language == name] for name in STOP}


def write(path: Path, *items: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_multipl_e_is_read(tmp_path: Path) -> None:
    first, *_ = found = loading.load(write(tmp_path / "js.jsonl", *ITEMS["js"]))
    assert len(found) == 10
    assert language_of(found) == "js"
    assert (first.id, first.head, first.stop) == ("triple", first.prompt, tuple(STOP["js"]))
    assert first.test.startswith("const assert")
    assert first.reference is None
    assert all(problem.language is None for problem in loading.load(_python(tmp_path)))


def _python(folder: Path) -> Path:
    test = "def check(candidate):\n    assert candidate(2) == 4\n"
    item = {"task_id": "t/0", "prompt": "def double(x):\n", "entry_point": "double", "test": test}
    return write(folder / "py.jsonl", item)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tests": ""}, "tests must be a text"),
        ({"name": 3}, "name must be a text"),
        ({"stop_tokens": "\n}"}, "triple: stop_tokens must be a list of texts"),
        ({"stop_tokens": [""]}, "triple: stop_tokens must be a list of texts"),
    ],
)
def test_unusable_problems_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=f"line 1: {says}.*MultiPL-E"):
        loading.load(write(tmp_path / "bad.jsonl", {**ITEMS["js"][0], **change}))


def test_a_file_has_one_language(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.jsonl", ITEMS["js"][0], ITEMS["pl"][1])
    with pytest.raises(UserError, match=r"vowels has another language or other stop_tokens than triple; give a file"):
        check_language(path, loading.load(path))


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")
def test_a_missing_module_is_named(tmp_path: Path) -> None:
    used = write(tmp_path / "used.jsonl", {**ITEMS["pl"][0], "tests": "use List::Util qw(sum);\nuse strict;\ncheck();"})
    check_language(used, loading.load(used))
    path = write(tmp_path / "pl.jsonl", {**ITEMS["pl"][0], "tests": "use No::Such::Module;\n\ncheck();"})
    with pytest.raises(
        UserError, match=r"the tests of triple need Perl's No::Such::Module, which /\S*perl cannot load"
    ):
        check_language(path, loading.load(path))


def test_mistakes_are_found_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "js.jsonl", *ITEMS["js"])
    options = ["benchmark=[code]", f"benchmark.code.data={path}"]
    assert "strategy=vote runs Python" in mistake(*options, "strategy=vote")
    assert "shows tests in Python only" in mistake(*options, "benchmark.code.shown_tests=1")
    assert "'triple' has no reference solution" in mistake(*options, "benchmark.code.solutions=reference")
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    assert "JavaScript programs need node" in mistake(*options)
