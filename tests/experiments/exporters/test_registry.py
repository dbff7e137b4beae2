"""Exporters are found without a list: those of this project, and those of other packages whatever these do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from typing_extensions import override

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plugins import EXPORTERS
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.exporters.exporter import Exporter
from runtime_matrix.experiments.exporters.prometheus import PrometheusConfig
from runtime_matrix.experiments.exporters.registry import find, installed
from runtime_matrix.experiments.records.schema import Record

if TYPE_CHECKING:
    from pathlib import Path

HERE = __name__


@dataclass(frozen=True)
class OtherConfig:
    other_url: str | None = None


class Other(Exporter[Any]):
    Config: ClassVar[type[Any]] = OtherConfig

    @classmethod
    @override
    def from_config(cls, config: Any) -> Other | None:
        return cls() if config.other_url is not None else None

    @override
    def record(self, record: Record) -> None: ...


class SameKey(Other):
    Config = PrometheusConfig


class NoDataclass(Other):
    Config = dict


class NoDefault(Other):
    @dataclass(frozen=True)
    class Config:
        needed_url: str


class UnknownType(Other):
    @dataclass(frozen=True)
    class Config:
        other_url: Path | None = None


class Incomplete(Exporter[OtherConfig]):
    Config = OtherConfig


NO_EXPORTER = "a text"


def point(name: str, target: str) -> EntryPoint:
    return EntryPoint(name, target if ":" in target else f"{HERE}:{target}", EXPORTERS)


def test_the_exporters_of_this_project_are_found_and_import_no_client() -> None:
    code = "import sys; from runtime_matrix.experiments.exporters.registry import find; print(*find([]).exporters); "
    code += "print({'prometheus_client', 'mlflow', 'opentelemetry', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "mlflow opentelemetry prometheus\nset()\n"


def test_each_exporter_gets_its_own_keys() -> None:
    configs = find([point("other", "Other")]).configs({"other_url": "x", "prometheus_port": 9090}, "monitoring")
    assert configs["other"] == OtherConfig("x")
    assert configs["prometheus"] == PrometheusConfig(None, 9090, 0.0)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"other_ulr": "x"}, "monitoring.other_ulr is not a known key; did you mean 'other_url'?"),
        ({"prometheus_port": 70000}, "monitoring.prometheus_port must be at most 65535; found 70000"),
        ({"mlflow": 1}, "monitoring.mlflow must be of the type str; found 1"),
        (
            {"prometheus_linger_s": 3},
            "monitoring.prometheus_linger_s would be ignored: add monitoring.prometheus_port=PORT",
        ),
        ("x", "monitoring must be a mapping; found 'x'"),
    ],
)
def test_a_mistake_is_one_line(values: object, line: str) -> None:
    with pytest.raises(UserError) as caught:
        find([point("other", "Other")]).configs(values, "monitoring")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("nowhere:X", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
        ("Missing", f"cannot be loaded: AttributeError: module '{HERE}' has no attribute 'Missing'"),
        ("NO_EXPORTER", "cannot be used: .*:NO_EXPORTER is not a complete subclass of .*Exporter"),
        ("Incomplete", "cannot be used: .*:Incomplete is not a complete subclass of .*Exporter"),
        ("NoDataclass", "cannot be used: its Config is not a dataclass"),
        ("NoDefault", "cannot be used: needed_url of its Config has no default"),
        ("UnknownType", "cannot be used: NameError: name 'Path' is not defined"),
    ],
)
def test_an_unusable_package_is_an_error_only_if_chosen(target: str, line: str) -> None:
    registry = find([point("a_broken", target), point("other", "Other")])
    assert {"other", "prometheus"} < registry.exporters.keys()
    assert "a_broken" not in registry.exporters
    (broken,) = registry.broken
    assert broken.startswith("the exporter a_broken of the package ")
    assert "\n" not in broken
    registry.configs({"other_url": "x"}, "monitoring")
    with pytest.raises(UserError, match=f"monitoring.broken_url is not a known key.*a_broken.*{line}$"):
        registry.configs({"broken_url": None}, "monitoring")


def test_two_exporters_with_the_same_key_or_name_are_refused() -> None:
    registry = find([point("second", "SameKey")])
    with pytest.raises(
        UserError, match=r"^monitoring.prometheus_file is a key of two exporters, prometheus and second"
    ):
        registry.configs({}, "monitoring")
    with pytest.raises(UserError, match=r"^two exporters are called mlflow: uninstall the package"):
        find([point("mlflow", "Other")])


def test_exporters_that_are_not_chosen_have_their_defaults() -> None:
    config: CellConfig = build(CellConfig, compose(["monitoring=[prometheus]", "monitoring.prometheus_file=a.prom"]))
    assert installed().configs(config.monitoring, "monitoring")["prometheus"] == PrometheusConfig("a.prom")
    config = build(CellConfig, compose(["monitoring=[]"]))
    assert installed().configs(config.monitoring, "monitoring")["prometheus"] == PrometheusConfig()
    with pytest.raises(UserError, match=r"^monitoring=\[mlflow,mlflow\] names mlflow twice"):
        compose(["monitoring=[mlflow,mlflow]"])
    with pytest.raises(UserError, match=r"^monitoring=promteheus is not an option; did you mean 'prometheus'"):
        compose(["monitoring=[promteheus]"])
