"""Command lines: flags, folders and files of options, help, completion; what a record keeps can be typed again."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime_matrix.experiments import __main__ as cli
from runtime_matrix.experiments import compare, gate, run
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.gates.axes import accuracy, speedup
from runtime_matrix.experiments.gates.request import prepare_words

KINDS = ("_w4", "_w4a8", "_w8", "_w8a8")  # of ONNX graphs
SMALL = ("model=random", "benchmark=[memory]")
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Return what typing a command line says: exit code, output, errors. Nothing is measured."""

    def say(main: Callable[[], int], *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["runtime-matrix", *words])
        try:
            code: Any = main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return say


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Return the cells that `run` would measure; they are collected instead of measured."""
    cells: list[Cell] = []

    def keep(some: list[Cell]) -> int:
        cells.extend(some)
        return 0

    monkeypatch.setattr("runtime_matrix.experiments.run.run_sweep", keep)
    return cells


@pytest.fixture
def options(tmp_path: Path) -> Path:
    """Return a folder of options: a runtime, and a sweep over it."""
    folder = tmp_path / "my options"
    (folder / "runtime").mkdir(parents=True)
    (folder / "experiment").mkdir()
    (folder / "runtime" / "mine.yaml").write_text(
        "defaults:\n  - weights: full\n  - placement: device\n  - _self_\nname: mine\ndtype: float32\n"
        "engine: {name: fake, target: 'runtimes.engines.fake:Fake'}\n"
    )
    (folder / "experiment" / "both.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {runtime: 'fake,mine'}}}\n"
    )
    return folder


@pytest.mark.parametrize("flag", [["--config-dir", "{}"], ["-cd", "{}"], ["hydra.searchpath=['file://{}']"]])
def test_config_dir_adds_a_folder_of_presets(say: Say, planned: list[Cell], options: Path, flag: list[str]) -> None:
    words = [*(word.format(options) for word in flag), *SMALL]
    assert say(run.main, *words, "experiment=both")[0] == 0
    assert [cell.label.split("-")[0] for cell in planned] == ["fake", "mine"]
    command = planned[1].command
    planned.clear()
    assert say(run.main, *shlex.split(command)[2:])[0] == 0, command  # what a record keeps, typed again
    assert [cell.label.split("-")[0] for cell in planned] == ["mine"]
    assert planned[0].command == command
    for main in (compare.main, gate.main):
        code, out, _ = say(main, *words, "runtime=mine", "--cfg", "job")
        assert code == 0
        assert yaml.safe_load(out)["runtime"]["name"] == "mine"


def test_a_preset_can_be_a_file(say: Say, planned: list[Cell], tmp_path: Path) -> None:
    path = tmp_path / "my_sweep.yaml"
    path.write_text("seed: 7\n")  # without the header that Hydra wants
    assert say(run.main, f"experiment={path}", "runtime=fake", *SMALL)[0] == 0
    assert planned[0].config.seed == 7
    assert f"experiment={path}" in planned[0].command
    code, _, error = say(run.main, f"experiment={tmp_path / 'none.yaml'}", *SMALL)
    assert (code, error) == (
        2,
        f"error: experiment={tmp_path / 'none.yaml'} cannot be read: No such file or directory\n",
    )


def test_cfg_prints_the_configurations_of_a_sweep(say: Say, planned: list[Cell]) -> None:
    code, out, _ = say(run.main, "-m", "--cfg", "job", "runtime=fake,eager", *SMALL)
    assert code == 0
    assert [config["runtime"]["name"] for config in yaml.safe_load_all(out)] == ["fake", "eager"]
    assert planned == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mulitrun"], "--mulitrun is not an option; did you mean 'multirun'?"),
        (["--config-dir"], "--config-dir needs a value: --config-dir DIR"),
        (["--config-dir", "/nowhere"], "--config-dir /nowhere is not a folder"),
        (["runtime=file.yaml"], "runtime=file.yaml cannot be read: No such file or directory"),
    ],
)
@pytest.mark.parametrize("main", [run.main, compare.main, gate.main])
def test_a_mistake_is_one_line_with_exit_code_2(say: Say, main: Callable[[], int], words: list[str], says: str) -> None:
    code, _, error = say(main, *words)
    assert (code, error) == (2, f"error: {says}\n")


def test_launchers_of_hydra_are_refused(say: Say) -> None:
    code, _, error = say(run.main, "-m", "hydra/launcher=joblib", "runtime=fake,eager", *SMALL)
    assert code == 2
    assert error.startswith("error: hydra/launcher=joblib: Hydra's launchers cannot be used")


def test_help_explains_each_value(say: Say) -> None:
    code, out, _ = say(run.main, "--help", "runtime=gptq")
    assert code == 0
    assert "time_limit_s: 1800 # per process of a cell" in out
    assert "  bits: 4 # 2, 3, 4 or 8" in " ".join(out.splitlines())
    assert "\n  claims:" not in out  # no group of options
    assert "experiment: ablation, adapters, default, detection, detection_techniques, execution, full" in out
    assert "\nbenchmark:\n  latency:\n    batch: [1]" in out
    assert "defaults:" not in out
    assert "@package" not in out


def test_version_is_printed(say: Say) -> None:
    for main in (cli.main, compare.main, run.main):
        code, out, _ = say(main, "--version")
        assert code == 0
        assert out.startswith("runtime-matrix ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("runtime-matrix co", ["compare "]),
        ("runtime-matrix run runtime=onnx", [f"runtime=onnxruntime{kind}" for kind in ("", *KINDS)]),
        ("runtime-matrix gate comparison.row", []),
        ("runtime-matrix gate comparison.rou", ["comparison.rounds="]),
        ("runtime-matrix report ", []),
    ],
)  # fmt: skip
def test_completion_offers_commands_and_options(
    say: Say, monkeypatch: pytest.MonkeyPatch, line: str, words: list[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    code, out, _ = say(cli.main, "--complete")
    assert (code, [word for word in out.split("\n") if word]) == (0, words)


def test_a_custom_runtime_is_named_after_its_class(say: Say, planned: list[Cell]) -> None:
    words = ["runtime=custom", "runtime.engine.target=runtimes.engines.fake:Fake", *SMALL]
    assert say(run.main, *words)[0] == 0
    assert say(run.main, *words, "runtime.name=other")[0] == 0
    assert [cell.config.runtime.title for cell in planned] == ["Fake", "other"]


def test_other_bits_than_the_preset_s_are_added_to_the_title(say: Say, planned: list[Cell]) -> None:
    for words in (["runtime=gptq"], ["runtime=gptq", "runtime.weights.bits=8"], ["runtime=gptq_3bit"],
                  ["runtime=onnxruntime_w4a8"], ["runtime=onnxruntime_w8"],
                  ["runtime=eager", "runtime/weights=rounded"]):  # fmt: skip
        assert say(run.main, *words, *SMALL)[0] == 0
    assert [cell.config.runtime.title for cell in planned] == [
        *("gptq", "gptq8", "gptq3", "onnxruntime+w4a8", "onnxruntime+w8", "eager+rounded3")
    ]


def test_a_tilde_removes_a_limit_from_a_gate() -> None:
    made = prepare_words(["~gate.reference.accuracy.code", "~gate.baseline.speedup.prefill", *SMALL]).gate
    assert "code" not in made[accuracy.REFERENCE]
    assert prepare_words(["~gate.reference.accuracy", *SMALL]).gate[accuracy.REFERENCE] == {}
    assert "multiple_choice" in made[accuracy.REFERENCE]
    assert made[speedup.BASELINE] == ("decode",)
    from runtime_matrix.experiments.config.errors import UserError

    with pytest.raises(
        UserError, match=r"~gate.reference.accuracy.cod: the gate has no such limit; did you mean 'code'"
    ):
        prepare_words(["~gate.reference.accuracy.cod", *SMALL])
