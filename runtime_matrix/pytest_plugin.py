"""Gates as tests. A plugin that pytest finds wherever this package is installed; it imports nothing until it is used.

`pytest --gate ci` makes a test of each limit of a gate: a YAML file, or one of ours by its name. In another project's
tests, over its own runtime:

    def test_my_runtime(gate):
        gate("my_package.runtime:MyRuntime", some_option=1)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from runtime_matrix.experiments.gates.pytest_items import GateCheck

_GATES = Path(__file__).parent / "conf" / "gate"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("runtime-matrix", "performance gates")
    group.addoption("--gate", metavar="GATE", help="judge by this gate, a YAML file or a name: a test for each limit")
    group.addoption(
        "--gate-with",
        metavar="WORDS",
        default="",
        help="what the command `gate` takes besides: 'runtime=onnxruntime baseline=DIR'",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--gate") is None:
        return
    path = str(_gate_file(config))
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        config.args.append(path)
    else:
        config.args[:] = [path]  # a gate was asked for, not the whole test suite


def _gate_file(config: pytest.Config) -> Path:
    asked = str(config.getoption("--gate"))
    places = (Path(asked), _GATES / f"{asked}.yaml")
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        names = ", ".join(sorted(place.stem for place in _GATES.glob("*.yaml")))
        raise pytest.UsageError(f"--gate {asked} is neither a file nor one of {names}")
    return path.resolve()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if parent.config.getoption("--gate") is None or file_path.resolve() != _gate_file(parent.config):
        return None
    from runtime_matrix.experiments.gates.pytest_items import GateFile

    return GateFile.from_parent(parent, path=file_path)


@pytest.fixture
def gate(tmp_path: Path, pytestconfig: pytest.Config) -> GateCheck:
    """Judge a runtime by a gate's limits: `gate("my_package.runtime:MyRuntime")`."""
    from runtime_matrix.experiments.gates.pytest_items import GateCheck

    return GateCheck(tmp_path / "runs", pytestconfig)
