"""`python -m experiments.detect`: figures, techniques, a comparison, and mistakes in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from runtime_matrix.experiments.detect import main
from runtime_matrix.experiments.detector.stored import stored_responses
from tests.conftest import ROOT
from tests.documentation import read
from tests.experiments.detector.made import made, published_scores
from tests.in_process import call


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("stored") / "items.jsonl", signal=0.8)


def write(path: Path, signal: float, responses: int = 60) -> Path:
    scores = made(responses=responses, layers=2, signal=signal)
    path.write_text("".join(f"{json.dumps(item)}\n" for item in stored_responses(scores)))
    return path


def test_the_published_log_gives_what_the_documentation_shows(data_folder: Path) -> None:
    shown = "\n".join(read(ROOT / "docs" / "detection.md").code)
    path = str(data_folder / "redeep" / "llama2_7b_response_chunk.json")
    judgement, techniques = (call(main, [path, *words]).stdout.splitlines() for words in ([], ["--techniques"]))
    assert "in-sample" in judgement[4]
    assert "0.6885 [" in judgement[5]
    assert "0.5985 [" in judgement[9]
    assert "\n".join(judgement[1:]) in shown
    start = techniques.index("")
    assert "\n".join(techniques[start + 1 : techniques.index("", start + 1)]) in shown


def test_figures_heads_and_notes_are_printed(stored: Path) -> None:
    done = call(main, [str(stored)])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{stored}: 60 responses (30 unsupported), 60 sources, ")
    assert lines[1] == "setting: 3 heads by AUC, 4 layers, alpha 0.6, m 1, threshold 0.5"
    assert lines[2] == "note: 4 layers were asked for: all 2 are used"
    assert lines[4].split() == ["[95", "%]", "held", "out", "in-sample"]
    assert sum(line.startswith("heads for half") for line in lines) == 2


@pytest.mark.parametrize("layers", [1, 2, 32])
def test_the_in_sample_figures_are_those_of_the_published_formula(layers: int, tmp_path: Path) -> None:
    scores = made(heads=20, layers=layers, signal=0.6, is_rounded=True)
    (tmp_path / "log.json").write_text(json.dumps(list(stored_responses(scores))))
    chunk_N, response_R = published_scores(scores)
    result = json.loads(call(main, [str(tmp_path / "log.json"), "--splits", "1", "--json"]).stdout)
    found = [result["in_sample"][name]["estimate"] for name in ("auc", "chunk_auc")]
    labels = (scores.is_unsupported_R, response_R), (scores.is_unsupported_N, chunk_N)
    assert found == pytest.approx([roc_auc_score(label, values) for label, values in labels])


def test_options_are_those_of_the_setting(stored: Path) -> None:
    words = "--heads mutual_information --top-heads 2 --top-layers 1 --alpha 0.5 --m 2 --ensemble 3 --threshold f1"
    done = call(main, [str(stored), *words.split(), "--seed", "4", "--splits", "2", "--json"])
    result = json.loads(done.stdout)
    assert result["setting"] == {
        "heads": "mutual_information",
        "fixed_heads": [],
        "top_heads": 2,
        "top_layers": 1,
        "alpha": 0.5,
        "m": 2.0,
        "search": "none",
        "ensemble": 3,
        "threshold": "f1",
        "seed": 4,
    }
    assert (result["splits"], result["responses"], result["notes"]) == (2, 60, [])
    assert result["held_out"]["auc"]["low"] < result["held_out"]["auc"]["estimate"] < result["in_sample"]["auc"]["high"]
    assert set(result["baseline_auc"]) == {"length"}
    named = json.loads(call(main, [str(stored), "--fixed-head", "(1,0)", "--splits", "1", "--json"]).stdout)
    assert named["in_sample_detector"]["heads"] == ["(1, 0)"]


def test_techniques_stand_beside_their_claims(stored: Path) -> None:
    done = call(main, [str(stored), "--techniques", "--splits", "1"])
    grid = next(line for line in done.stdout.splitlines() if line.startswith("grid search"))
    assert "1.05–1.1×" in grid
    result = json.loads(call(main, [str(stored), "--techniques", "--splits", "1", "--json"]).stdout)
    found = {(part["name"], part["figure"]): part for part in result["techniques"]}
    assert found["grid search", "auc"]["claim"] == "grid-search"
    assert result["notes"] == ["4 layers were asked for: all 2 are used"]


def test_two_files_are_compared(stored: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", signal=0.1, responses=50)
    words = [str(stored), "--against", str(other), "--splits", "1"]
    lines = call(main, words).stdout.splitlines()
    assert f"against {other}, on the 50 responses of both files, split alike:" in lines
    assert "note: 10 responses left out: only in the first file" in lines
    difference = json.loads(call(main, [*words, "--json"]).stdout)["against"]["held_out"]
    first, second = difference["first"]["estimate"], difference["second"]["estimate"]
    assert difference["difference"]["estimate"] == pytest.approx(first - second)


def test_figures_that_are_undefined_are_not_available(stored: Path) -> None:
    words = [str(stored), "--alpha", "0", "--m", "0", "--splits", "1"]
    assert any(line.split() == ["Pearson", "n/a", "n/a"] for line in call(main, words).stdout.splitlines())
    assert json.loads(call(main, [*words, "--json"]).stdout)["held_out"]["pearson"] is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--top-heads", "0"], "top_heads must be at least 1; found 0"),
        (["--alpha", "nan"], "alpha must be a number of at least 0; found nan"),
        (["--search", "grid", "--top-heads", "3"], "--search grid chooses .*: leave out --top-heads"),
        (["--heads", "fixed"], "--heads fixed needs heads: --fixed-head"),
        (["--heads", "auc", "--fixed-head", "(0, 0)"], "--fixed-head needs --heads fixed; found auc"),
        (["--fixed-head", "(0, 0)", "--top-heads", "1"], "--fixed-head names each head: leave out --top-heads"),
        (["--fixed-head", "(9, 9)"], r"there is no head \(9, 9\); there are 12"),
        (["--techniques", "--alpha", "1"], "--techniques compares settings of its own: leave out --alpha"),
        (["--techniques", "--against", "x"], "do not go together"),
        (["--split", "test"], "no response is of the split test"),
        (["--against", "/nowhere"], "/nowhere cannot be read"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], reason: str, stored: Path) -> None:
    done = call(main, [str(stored), *words])
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(reason, line)


@pytest.mark.parametrize(
    "words", [["--heads", "auk"], ["--seed", "-1"], ["--splits", "0"], ["--top-layers", "x"], ["--jso"]]
)
def test_a_word_that_is_no_option_is_refused(words: list[str], stored: Path) -> None:
    done = call(main, [str(stored), *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr.splitlines()[-1]
