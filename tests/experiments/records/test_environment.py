"""Two machines under one name are two machines: instruction sets and limits tell them apart."""

from __future__ import annotations

import importlib.metadata
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.columns import COLUMNS
from runtime_matrix.experiments.analysis.matrix import machine, rows
from runtime_matrix.experiments.config.compose import CONF
from runtime_matrix.experiments.records.environment import (
    commit,
    environment,
    environment_hash,
    machine_differences,
    machine_facts,
    packages,
)
from runtime_matrix.experiments.records.processor import Processor, describe, processor
from runtime_matrix.experiments.records.schema import Environment
from runtime_matrix.experiments.reports.text import foot, markdown
from tests.experiments.recorded import make_record, result

EPYC = """processor : 0
vendor_id : AuthenticAMD
cpu family : 25
model : 17
model name : AMD EPYC
stepping : 1
flags : fpu f16c fma avx2 avx512f avx512_bf16 avx512_vnni

processor : 1
model name : another
"""
ARM = "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd4f\nFeatures : fp asimd sve sve2 bf16 i8mm\n"
AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


# Adding one makes earlier records those of another environment. The last two came with the engine llamacpp.
RECORDED = (
    *("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "onnx", "hydra-core", "pytest-benchmark", "numpy"),
    *("accelerate", "gptqmodel", "torchao", "bitsandbytes"),
    *("tensorrt", "tensorrt-rtx-cu13-bindings", "torch-tensorrt"),
    *("xllamacpp", "gguf", "openvino", "httpx"),
)


def read(root: Path, text: str, variables: dict[str, str] | None = None) -> Processor:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(text)
    return processor(root, variables or {})


def test_facts_of_the_first_processor(tmp_path: Path) -> None:
    assert read(tmp_path, EPYC) == Processor(
        processor="AMD EPYC",
        cpu={"vendor": "AuthenticAMD", "family": "25", "model": "17", "stepping": "1"},
        instruction_sets=["f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"],
        instruction_limits={},
    )
    arm = read(tmp_path, ARM)
    assert arm.cpu["vendor"] == "0x41"
    assert arm.instruction_sets == ["asimd", "bf16", "i8mm", "sve", "sve2"]


@pytest.mark.parametrize(
    ("highest", "left"),
    [
        ("AVX2", ["f16c", "fma", "avx2"]),
        ("avx512_core", ["f16c", "fma", "avx2", "avx512f"]),
        ("AVX512_CORE_VNNI", ["f16c", "fma", "avx2", "avx512f", "avx512_vnni"]),
        ("DEFAULT", ["f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"]),
    ],
)
def test_variables_limit_the_instruction_sets_of_pytorch(tmp_path: Path, highest: str, left: list[str]) -> None:
    limited = read(tmp_path, EPYC, {"ONEDNN_MAX_CPU_ISA": highest})
    assert limited.instruction_sets == left
    assert limited.instruction_limits == {"ONEDNN_MAX_CPU_ISA": highest}


def test_a_line_describes_the_machine(tmp_path: Path) -> None:
    whole = Environment(**asdict(read(tmp_path, EPYC)), cores=2)
    assert describe(whole) == "AMD EPYC (family 25 model 17), 2 cores, AVX-512 bf16 VNNI"
    limited = Environment(**asdict(read(tmp_path, EPYC, AVX2_ONLY)), cores=1, cpu_limit=0.5)
    expected = "AMD EPYC (family 25 model 17), 1 core, at most 0.5 CPUs' time, AVX2"
    assert describe(limited) == f"{expected}, ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2"
    assert describe(Environment(processor="P", cores=2)) == "P, 2 cores"  # as earlier versions recorded it
    assert describe(Environment()) is None


def test_other_instruction_sets_or_limits_are_another_machine(tmp_path: Path) -> None:
    whole, limited = (replace(environment(), **asdict(read(tmp_path, EPYC, limits))) for limits in ({}, AVX2_ONLY))
    assert machine(whole, "auto") != machine(limited, "auto")
    assert environment_hash(whole) != environment_hash(limited)
    differences = machine_differences(machine_facts(whole), limited)
    assert [text.split(" ")[1] for text in differences] == ["sets", "limits"]
    assert "avx512_bf16, here f16c fma avx2" in differences[0]
    assert machine_differences(machine_facts(whole), whole) == []
    assert machine_differences({"processor": "AMD EPYC", "cores": whole.cores}, whole) == []  # an older baseline
    for key, value in (("cpu_limit", 0.5), ("memory_limit_bytes", 1), ("governor", "powersave")):
        assert machine_facts(replace(whole, **{key: value})) != machine_facts(whole)


def test_the_footer_names_the_machine_and_its_load(tmp_path: Path) -> None:
    loaded = Environment(**asdict(read(tmp_path, EPYC)), cores=2, load_average=[0.42, 0.1, 0.1])
    shown = rows([result(replace(make_record("eager"), environment=loaded))])
    assert foot(shown)[-1] == "AMD EPYC (family 25 model 17), 2 cores, AVX-512 bf16 VNNI, load 0.4"
    assert foot(shown)[-1] in markdown(shown)
    assert foot(rows([result(make_record("eager"))]))[-1] == "P, 2 cores"


def test_an_emulated_dtype_is_noted_in_its_row() -> None:
    record = make_record("eager")
    note = "bfloat16 is emulated on this processor: its products run at 0.002 of float32's rate"
    assert record.load is not None
    record = replace(
        record,
        load=replace(record.load, dtype="bfloat16", dtype_note=note),
        runtime=replace(record.runtime, dtype="bfloat16"),
    )
    (row,) = rows([result(record)])
    (column,) = [column for column in COLUMNS if column.key == "dtype"]
    assert column.show(row) == "bfloat16 (emulated)"
    assert f"eager: {note}" in foot([row])
    assert f"eager, compile: {note}" in foot([row, replace(row, runtime="compile")])
    (plain,) = rows([result(make_record("eager"))])
    assert (plain.dtype_note, column.show(plain)) == (None, "float32")


def test_an_untracked_file_makes_the_code_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    (tmp_path / "runtimes").mkdir()
    (tmp_path / "runtimes" / "one.py").write_text("")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr("runtime_matrix.experiments.records.environment._SOURCE", tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert environment().is_dirty is False
    (tmp_path / "runtimes" / "two.py").write_text("")
    assert environment().is_dirty is True


def test_without_git_commit_and_changes_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime_matrix.experiments.records.environment._SOURCE", tmp_path)
    assert (commit(), environment().is_dirty) == (None, False)  # an installed wheel
    (tmp_path / ".git").mkdir()  # git refuses such a folder
    assert (commit(), environment().is_dirty) == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (commit(), environment().is_dirty) == (None, None)


def test_slightly_more_memory_is_the_same_machine() -> None:
    whole = replace(environment(), memory_bytes=126 * 2**30)
    assert environment_hash(whole) == environment_hash(replace(whole, memory_bytes=127 * 2**30))
    assert environment_hash(whole) != environment_hash(replace(whole, memory_bytes=64 * 2**30))


def test_the_presets_declare_the_packages_whose_versions_are_recorded() -> None:
    assert sorted(packages()) == sorted(RECORDED)
    found = environment().versions
    assert found.keys() == set(RECORDED)
    assert found["torch"] == importlib.metadata.version("torch")


def test_the_packages_of_another_package_s_presets_are_recorded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime" / "weights").mkdir(parents=True)
    (tmp_path / "runtime" / "weights" / "own.yaml").write_text("{name: own, target: 'own_weights:Own'}\n")
    (tmp_path / "own_weights.py").write_text("class Own:\n    distributions = ('numpy', 'own-kernels')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("runtime_matrix.experiments.records.environment.places", lambda: [CONF, tmp_path])
    packages.cache_clear()
    try:
        assert set(packages()) == {*RECORDED, "own-kernels"}
        assert environment().versions["own-kernels"] is None  # it is not installed
    finally:
        packages.cache_clear()
