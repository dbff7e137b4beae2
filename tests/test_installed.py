"""What is installed, beside a project with folders of our names: a wheel in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT

SMALL = (
    "runtime=fake",
    "runtime@reference=fake",
    "model=random",
    "benchmark=[memory]",
    "model.architecture.num_hidden_layers=1",
    "agreement.enabled=false",
    "comparison.enabled=false",
)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with our wheel and the packages of this one, without its checkout."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    made = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(made), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True)
    # A folder that a .pth file adds is not searched for further .pth files: the checkout stays out of reach.
    (site,) = folder.glob("venv/lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of somebody who uses Hydra, as most do."""
    folder = tmp_path / "project"
    for name in ("experiments", "runtimes", "conf", "tests"):
        (folder / name).mkdir(parents=True)
    (folder / "experiments" / "__init__.py").touch()
    (folder / "experiments" / "mine.py").write_text("ANSWER = 42\n")
    (folder / "runtimes" / "__init__.py").touch()
    (folder / "runtimes" / "mine.py").write_text(
        "from runtime_matrix.runtimes.engines.fake import Fake\n\n\n"
        "class Mine(Fake):\n"
        "    def load(self, *words):\n        print('loading 100 %')\n        return super().load(*words)\n"
    )
    (folder / "conf" / "config.yaml").write_text("a: 1\n")
    (folder / "tests" / "test_mine.py").write_text(
        "import sys\n\nfrom experiments.mine import ANSWER\n\n\n"
        "def test_answer():\n    assert ANSWER == 42\n\n\n"
        "def test_nothing_of_the_plugin_is_imported():\n"
        "    ours = {n for n in sys.modules if n.startswith('runtime_matrix')}\n"
        "    assert ours == {'runtime_matrix', 'runtime_matrix.pytest_plugin'}\n"
    )
    return folder


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_a_wheel_has_one_import_package(python: Path) -> None:
    code = "from importlib.metadata import files; print({f.parts[0] for f in files('runtime-matrix')})"
    done = run(python.parent, python, "-c", code)
    names = {name for name in eval(done.stdout) if not name.endswith(".dist-info")}
    assert names - {"..", "__pycache__"} == {"runtime_matrix"}  # `..` is the program


@pytest.mark.slow
def test_tests_of_a_project_with_folders_of_our_names_run(python: Path, project: Path) -> None:
    done = run(project, python, "-m", "pytest", "-q")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    program = "import sys, pytest; sys.exit(pytest.console_main())"  # as the program `pytest`, which adds no folder
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    done = run(project, python, "-P", "-c", program, "-q")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_the_program_measures_and_names_itself(python: Path, project: Path) -> None:
    program = python.parent / "runtime-matrix"
    done = run(project, program, "run", *SMALL, "progress=false")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this matrix again: runtime-matrix report results/runs" in done.stdout
    done = run(project, program, "report", "results/runs", "--format", "json")
    assert '"command": "runtime-matrix run runtime=fake' in done.stdout
    (project / "options" / "model").mkdir(parents=True)
    (project / "text.txt").write_text("a text of some words " * 50)
    words = ["model=bundled", "benchmark=[perplexity]", "benchmark.perplexity.data=text.txt", "results_dir=more"]
    words += ["runtime=eager", "agreement.enabled=false", "progress=false"]
    done = run(project, program, "run", "--config-dir", "options", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = project.glob("more/*/record.json")
    command = json.loads(record.read_text())["command"]
    assert f"--config-dir {project}/options" in command
    again = subprocess.run(
        command, shell=True, cwd="/", env=os.environ | {"PATH": f"{program.parent}:/bin"}, check=False
    )
    assert again.returncode == 0
    assert len(list(project.glob("more/*/record.json"))) == 2
    done = run(project, python, "-m", "runtime_matrix", "report", "nowhere")
    assert done.stderr == "error: nowhere is not a folder; measure first: python -m runtime_matrix run\n"
    assert run(project, program, "--version").stdout == "runtime-matrix 0.1.0\n"
    done = run(project, program, "run", "--help")
    assert "  runtime-matrix run experiment=default" in done.stdout
    assert "python -m experiments" not in done.stdout


@pytest.mark.slow
@pytest.mark.alone
def test_a_gate_over_a_runtime_of_the_project(python: Path, project: Path) -> None:
    words = ["model=random", "agreement.enabled=false", "comparison.rounds=2", "comparison.one_thread_rounds=2"]
    words += ["gate.interim_launches=[3,4,5]", "gate.must_find=0.9", "gate.reference.outputs=[]"]
    words += ["~gate.reference.accuracy", "~gate.reference.cpu_speedup"]
    words += ["~gate.reference.speedup.prefill"]  # a scripted prompt takes microseconds, and noise is of that size
    (project / "tests" / "test_mine.py").write_text(
        f"def test_my_runtime(gate):\n    gate('runtimes.mine:Mine', against='fake', overrides={words!r})\n"
    )
    done = run(project, python, "-m", "pytest", "-q")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "[1/2] fake-random-auto" in done.stderr  # progress, past what pytest captures
    assert "launch 3" in done.stderr


@pytest.mark.slow
def test_no_module_has_two_names(tmp_path: Path) -> None:
    """Of a checkout: in the command itself, and in a cell whose runtime tells what is imported there."""
    (tmp_path / "mine.py").write_text(
        "import json, os, sys\nfrom runtime_matrix.runtimes.engines.fake import Fake\n\n\n"
        "class Mine(Fake):\n"
        "    def load(self, *words):\n"
        "        with open(os.environ['TOLD'], 'a') as file:\n"
        "            file.write(json.dumps(names()) + '\\n')\n"
        "        return super().load(*words)\n\n\n"
        "def names():\n"
        "    files = {n: getattr(m, '__file__', None) or '' for n, m in list(sys.modules.items())}\n"
        f"    return sorted(n for n, path in files.items() if path.startswith({str(ROOT)!r} + '/')\n"
        "                  and '.venv' not in path)\n"
    )
    command = (
        "import runpy, sys, mine, json\n"
        "try:\n    runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)\n"
        "finally:\n    open(__import__('os').environ['TOLD'], 'a').write(json.dumps(mine.names()) + '\\n')\n"
    )
    told = tmp_path / "told"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "TOLD": str(told)}
    cells = ["runtime=custom", "runtime.engine.target=mine:Mine", *SMALL[1:], f"results_dir={tmp_path / 'runs'}"]
    short = ["comparison.launches=1", "comparison.rounds=2", "comparison.warmup=1"]
    for name, words in (("run", ["resume=false"]), ("compare", ["against=fake", "comparison.enabled=true", *short])):
        kept = [word for word in cells if word.partition("=")[0] not in {w.partition("=")[0] for w in words}]
        done = subprocess.run(
            [sys.executable, "-c", command, f"experiments.{name}", *kept, *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    lists = [json.loads(line) for line in told.read_text().splitlines()]
    assert len(lists) >= 4  # two commands and at least as many cells
    mains = ("__main__", "__mp_main__")  # the command, in its own process and in those that it starts
    for names in lists:
        assert len(names) > 20
        assert [name for name in names if not name.startswith("runtime_matrix") and name not in mains] == []
