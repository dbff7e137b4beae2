"""What the fork server imports must not wake CUDA: a process that is forked afterwards could not use a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runtime_matrix.experiments.config.compose import CONF
from runtime_matrix.experiments.execution import supervisor as supervise
from tests.conftest import ROOT

KINDS = sorted({yaml.safe_load(path.read_text())["model_type"] for path in CONF.glob("model/architecture/*.yaml")})
# Counts who would initialise CUDA in a build that has it: by asking whether there is a GPU, unless the driver's library
# is asked instead, or by using one.
TRAP = """
import importlib, json, os, sys
import torch
hits = []
def is_available():
    if not torch.cuda._nvml_based_avail():
        hits.append(1)
    return False
torch.cuda.is_available = is_available
torch.cuda._lazy_init = lambda: hits.append(1)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
torch.cuda.is_available()
sys.__stdout__.flush()
os.write(int(sys.argv[2]), json.dumps(len(hits)).encode())
"""


def hits(modules: list[str], environment: dict[str, str]) -> int:
    reading, writing = os.pipe()
    command = [sys.executable, "-c", TRAP, json.dumps(modules), str(writing)]
    done = subprocess.run(command, cwd=ROOT, env=environment, pass_fds=[writing], capture_output=True, text=True)
    os.close(writing)
    with open(reading, "rb") as told:
        answer = told.read()
    assert done.returncode == 0, done.stderr
    return int(json.loads(answer))


def test_the_preload_does_not_query_cuda() -> None:
    with supervise.child_environment(1):
        environment = dict(os.environ)
    modules = supervise.preload(set(KINDS))
    assert {"transformers.models.llama.modeling_llama", "transformers.models.qwen3.modeling_qwen3"} <= set(modules)
    assert hits(modules, environment) == 0


@pytest.mark.slow
def test_the_trap_detects_a_query() -> None:
    with supervise.child_environment(1):
        environment = dict(os.environ)
    del environment["PYTORCH_NVML_BASED_CUDA_CHECK"]
    assert hits([], environment) == 1
    if importlib.util.find_spec("torchao"):
        assert hits(supervise.preload({"llama"}), environment) > 1  # torchao asks while it is imported


def test_a_server_that_cannot_fork_for_a_gpu_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a module among the preloaded ones that wakes CUDA, as a stand-in for the next package that does."""
    (tmp_path / "wakes.py").write_text("import torch\ntorch.cuda._is_in_bad_fork = lambda: True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(supervise, "preload", lambda *_: ["torch", "wakes"])
    supervise.stop_server()
    children = supervise.Children("fork", {"llama"}, 1)
    assert children._context.get_start_method() == "forkserver"
    children.wait_for_server(lambda _: None)
    assert children._context.get_start_method() == "spawn"


def test_every_preloaded_module_exists() -> None:
    """A fork server passes over what it cannot import, and every cell would import it again."""
    assert all(importlib.util.find_spec(name) for name in supervise.preload(set(KINDS), "pytest"))
