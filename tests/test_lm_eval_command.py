"""`python -m runtime_matrix.lm_eval`: lm-eval's own command line with our model; mistakes are one line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_matrix import lm_eval as command
from tests.conftest import ROOT
from tests.documentation import commands
from tests.experiments.harness.local_tasks import write_tasks
from tests.in_process import call

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")


def own(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, offline."""
    return subprocess.run(
        [sys.executable, "-m", "runtime_matrix.lm_eval", *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_lm_eval_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval._cli.harness", None)
    done = call(command.main, ["--tasks", "local_texts"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'runtime-matrix[lm-eval]'" in done.stderr


def test_help_lists_the_arguments_of_the_model() -> None:
    from runtime_matrix.experiments.api.harness import ARGUMENTS

    done = call(command.main, ["--help"])
    assert done.returncode == 0
    assert all(name in done.stdout for name in ARGUMENTS)


@pytest.mark.parametrize("line", commands("python -m runtime_matrix.lm_eval "))
def test_a_documented_command_is_one_that_lm_eval_takes(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval._cli.harness import HarnessCLI

    from runtime_matrix.experiments.api.harness import ARGUMENTS

    words = shlex.split(line)[3:]
    if words == ["--help"]:
        return
    monkeypatch.setattr(sys, "argv", ["lm-eval", "run", *words])
    parsed = HarnessCLI().parse_args()
    assert parsed.tasks
    assert all(key in ARGUMENTS or "." in key for key in parsed.model_args)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"runtim": "eager"}, "did you mean 'runtime'"),
        ({"runtime": "eagre"}, "did you mean 'eager'"),
        ({"model_path": "/nowhere"}, "/nowhere"),
        ({"max_length": 4096}, "max_length=4096"),
        ({"device": "tpu"}, "device=tpu"),
        ({"scoring.tokens": 1}, "scoring.tokens"),
    ],
    ids=str,
)
def test_a_wrong_argument_of_the_model_is_one_line(options: dict[str, object], named: str) -> None:
    from runtime_matrix import UserError
    from runtime_matrix.experiments.api.harness import RuntimeMatrixLM

    with pytest.raises(UserError) as error:
        RuntimeMatrixLM(**options)  # type: ignore[arg-type]
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_of_data_packages_and_tasks_are_explained() -> None:
    from datasets.exceptions import DatasetNotFoundError

    from runtime_matrix.experiments.harness.loading import explain, unknown_task

    for error in (ConnectionError("Couldn't reach the Hub"), DatasetNotFoundError("no such data"), FileNotFoundError()):
        assert "the data cannot be loaded" in str(explain(error, "arc_easy"))
    assert "pip install sacrebleu" in str(explain(ModuleNotFoundError("no", name="sacrebleu"), "wmt"))
    assert "arc_esy" in str(explain(ValueError("Tasks not found: arc_esy"), ""))
    assert "did you mean 'arc_easy'" in str(unknown_task("arc_esy", ["arc_easy", "mmlu"]))
    assert explain(ZeroDivisionError("a fault of ours"), "arc_easy") is None


@pytest.mark.slow
def test_it_writes_results_and_samples_as_lm_eval_does(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", documents=16)
    words = ["--tasks", "local_texts", "--include_path", str(folder), "--limit", "4", "--log_samples"]
    done = own(*words, "--model_args", "runtime=onnxruntime,threads=1", "--output_path", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "out").glob("*/results_*.json")
    assert json.loads(results.read_text())["config"]["runtime"] == "onnxruntime"
    (samples,) = (tmp_path / "out").glob("*/samples_local_texts_*.jsonl")
    assert len(samples.read_text().splitlines()) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--tasks", "local_textz"], "lm-eval has no task local_textz"),
        (["--tasks", "arc_easy"], "the data cannot be loaded"),
        (["--tasks", "local_texts", "--model_args", "runtim=eager"], "did you mean 'runtime'"),
        (["--tasks", "needs_package"], "pip install no_such_package"),
    ],
    ids=str,
)
def test_a_mistake_on_the_command_line_is_one_line(words: list[str], named: str, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", documents=8)
    (folder / "needs.py").write_text(
        "import no_such_package\n\n\ndef text(doc):\n    return no_such_package.text(doc)\n"
    )
    task = json.loads((folder / "texts.yaml").read_text())
    del task["doc_to_text"]
    content = f'{json.dumps({**task, "task": "needs_package"})[:-1]}, "doc_to_text": !function needs.text}}'
    (folder / "needs.yaml").write_text(content)
    done = own(*words, "--include_path", str(folder))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert named in last
