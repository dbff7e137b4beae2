"""What is suggested is a command that the program takes, and not what was measured already."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.advice import hints
from runtime_matrix.experiments.advice.choose import GOALS, Constraints
from runtime_matrix.experiments.advice.next_steps import Step, next_steps
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import CONF, compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.reading import read
from tests.experiments.recorded import make_record, sweep, write

CONSTRAINTS = [Constraints(goal, min_accuracy=0.99, max_memory_gib=0.01) for goal in GOALS]


@pytest.fixture
def found(tmp_path: Path) -> list[Row]:
    return rows(read(sweep(tmp_path))[0])


@pytest.fixture
def preset_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of runtimes of another package's presets."""
    folder = tmp_path / "presets"
    (folder / "runtime").mkdir(parents=True)
    monkeypatch.setattr(hints, "places", lambda: [CONF, folder])
    hints._hints.cache_clear()
    yield folder / "runtime"
    hints._hints.cache_clear()


def reasons_and_words(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """Return why each step is suggested, and the words of its command."""
    return [(step.why, step.command.removeprefix("python -m experiments.run ")) for step in steps]


MEMORY = [
    ("4 bits: a quarter of the weights' memory or less", "-m runtime=eager,gptq"),
    ("4 bits without calibration", "-m runtime=eager,nf4"),
    ("4 bits within the GGUF file", "-m runtime=eager,llamacpp_q4_0"),
    ("keys and values in 8 bits, under llama.cpp", "-m runtime=eager,llamacpp_kv8"),
    ("4 bits within the graph", "-m runtime=eager,onnxruntime_w4"),
    (
        "shorter sequences: a smaller cache",
        "benchmark.memory.prompt_tokens=32 benchmark.latency.prompt_tokens=32",
    ),
    ("the last layers off the device: slow, a last resort", "-m runtime=eager,offload"),
]
SPEED = [
    ("batching: what a larger batch gives", "'benchmark.latency.batch=[1,4,16]'"),
    ("flash attention, through PyTorch's sdpa", "runtime.engine.attention=sdpa"),
    ("compiled", "-m runtime=eager,compile"),
    ("ONNX Runtime, another engine", "-m runtime=eager,onnxruntime"),
    ("8-bit weights: fewer bytes per token", "-m runtime=eager,onnxruntime_w8a8"),
    ("OpenVINO, another engine", "-m runtime=eager,openvino"),
    ("llama.cpp, another engine", "-m runtime=eager,llamacpp"),
    ("llama.cpp with 8-bit weights", "-m runtime=eager,llamacpp_q8_0"),
    ("llama.cpp's own server", "-m runtime=eager,llama_server"),
    ("4-bit weights and int8 activations", "-m runtime=eager,onnxruntime_w4a8"),
    ("vLLM's server", "-m runtime=eager,vllm"),
    ("compiled, with 8-bit weights", "-m runtime=eager,compile_torchao_int8"),
    ("TensorRT", "-m runtime=eager,tensorrt"),
]
ACCURACY = [
    ("more bits", "runtime=gptq runtime.weights.bits=8"),
    ("smaller groups: more scales for as many bits", "runtime=gptq runtime.weights.group_size=16"),
    ("8-bit weights by torchao", "-m runtime=eager,torchao_int8"),
]


def test_presets_are_suggested_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    command = "python -m experiments.run runtime.engine.attention=eager"
    write(tmp_path, [replace(make_record("eager"), command=command)])
    rows_of_eager = rows(read(tmp_path)[0])
    assert reasons_and_words(next_steps(rows_of_eager, Constraints("latency"))) == SPEED
    assert reasons_and_words(next_steps(rows_of_eager, Constraints("memory", min_accuracy=1.5))) == MEMORY + ACCURACY
    all_missed = Constraints("latency", min_accuracy=1.5, max_memory_gib=0.0001)
    assert reasons_and_words(next_steps(rows_of_eager, all_missed)) == MEMORY + SPEED + ACCURACY


def test_measured_cells_are_recognized_by_title_or_words(tmp_path: Path) -> None:
    commands = {
        "eager": "runtime=eager",
        "gptq": "runtime=gptq",
        "eager+nf4": "runtime/weights=nf4",
        "gptq8": "runtime=gptq runtime.weights.bits=8",
    }
    made = make_record("eager")
    records = [
        replace(made, record_id=name, config_hash=name, runtime=replace(made.runtime, name=name), command=command)
        for name, command in commands.items()
    ]
    write(tmp_path, records)
    left = reasons_and_words(next_steps(rows(read(tmp_path)[0]), Constraints("memory", min_accuracy=1.5)))
    whys = {why for why, _ in MEMORY + ACCURACY} - {MEMORY[0][0], MEMORY[1][0], ACCURACY[0][0]}
    assert {why for why, _ in left} == whys  # smaller groups are not another title, and stay


def test_presets_of_other_packages_are_suggested(found: list[Row], preset_folder: Path) -> None:
    (preset_folder / "nf4.yaml").write_text("hints: [{problem: memory, why: hidden by ours}]\n")
    (preset_folder / "none.yaml").write_text("defaults: [eager]\n")
    assert {one.preset for one in hints.suggested("memory")} == {
        *("gptq", "nf4", "llamacpp_q4_0", "llamacpp_kv8", "onnxruntime_w4", "offload")
    }
    hints._hints.cache_clear()
    (preset_folder / "mine.yaml").write_text("hints: [{problem: memory, rank: 15, why: packed by me}]\n")
    assert [one.preset for one in hints.suggested("memory")][:3] == ["gptq", "mine", "nf4"]
    assert [one.hint.why for one in hints.suggested("memory")][2] == "4 bits without calibration"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hints: {problem: memory}", "hints must be a list"),
        ("hints: [{problem: size, why: x}]", r"mine.yaml: hints\[0\]\.problem=size is unknown"),
        ("hints: [{problem: speed}]", r"hints\[0\]\.why is missing"),
        ("hints: [{", "mine.yaml cannot be read"),
    ],
)
def test_a_preset_s_wrong_hint_names_its_file(preset_folder: Path, text: str, says: str) -> None:
    (preset_folder / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=says):
        hints.suggested("memory")


def test_hints_are_not_part_of_a_cell() -> None:
    config = compose(["runtime=gptq_3bit", "runtime@reference=compile"])
    assert "hints" not in config["runtime"]
    assert "hints" not in config["reference"]
    assert [one.preset for one in hints.suggested("accuracy")] == ["gptq", "gptq", "torchao_int8"]  # not gptq_3bit


def test_every_step_can_be_planned(found: list[Row], tmp_path: Path) -> None:
    suggested = [next_steps(found, constraints) for constraints in CONSTRAINTS]
    assert all(suggested)
    cells = {
        cell for steps in suggested for step in steps for cell in single(step.command)
    }  # each once: it takes a while
    for words in cells:
        assert plan(compose([*words, f"artifacts_dir={tmp_path}"]), shlex.join(words)).config.benchmark.chosen()


def single(command: str) -> list[tuple[str, ...]]:
    """Return the overrides of each cell of a command."""
    words = [word for word in shlex.split(command)[3:] if word != "-m"]
    runtimes = next((w.split("=")[1].split(",") for w in words if w.startswith("runtime=")), ["eager"])
    return [tuple(f"runtime={one}" if word.startswith("runtime=") else word for word in words) for one in runtimes]


def test_measured_and_failed_cells_are_not_suggested_again(found: list[Row]) -> None:
    commands = " ".join(step.command for step in next_steps(found, Constraints("memory")))
    assert "nf4" in commands
    assert "offload" not in commands  # it ran out of memory
    assert "runtime=eager,gptq" not in commands


def test_violated_constraints_come_first(tmp_path: Path) -> None:
    write(tmp_path, [make_record("eager", status="out_of_memory", reason="too large")])
    steps = next_steps(rows(read(tmp_path)[0]), Constraints("latency"))
    whys = [step.why.split(":")[0] for step in steps]
    assert whys.index("4 bits") < whys.index("shorter sequences") < whys.index("the last layers off the device")
    assert whys.index("the last layers off the device") < whys.index("batching") < whys.index("compiled")


def test_lost_accuracy_suggests_more_bits(found: list[Row]) -> None:
    commands = " ".join(step.command for step in next_steps(found, Constraints("latency", min_accuracy=0.99)))
    assert "runtime.weights.bits=8" in commands
    assert "runtime.weights.group_size=16" in commands


def test_suggestions_keep_the_model_and_hardware(tmp_path: Path) -> None:
    command = "python -m experiments.run model=local model.path=DIR hw=cpu seed=1"
    write(tmp_path, [replace(make_record("eager"), command=command)])
    for step in next_steps(rows(read(tmp_path)[0]), Constraints("latency")):
        assert step.command.startswith("python -m experiments.run model=local model.path=DIR hw=cpu ")
