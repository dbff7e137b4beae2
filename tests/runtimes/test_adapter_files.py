"""The files of a LoRA adapter are hostile until they are read: every mistake is one line that names the file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.runtimes.adapter_files import AdaptedModule, read_adapter
from tests.adapter_files import CONFIG, tensors, write

FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def changed(**values: Any) -> dict[str, torch.Tensor]:
    """Return tensors with the first of them replaced by `tensor`, or with others `added`."""
    found = tensors()
    if "tensor" in values:
        found[FIRST] = values["tensor"]
    found.update(values.get("added", {}))
    return found


def test_what_an_adapter_says(tmp_path: Path) -> None:
    files = read_adapter(write(tmp_path / "a", config={"alpha_pattern": {"layers.0.mlp.down_proj": 2}}))
    assert (files.base_name, files.rank, files.alpha, files.alphas) == ("bundled", 4, 8, {"layers.0.mlp.down_proj": 2})
    assert files.modules["model.layers.3.mlp.down_proj"] == AdaptedModule(512, 256, 4)
    assert files.parameters == 4 * (4 * 512 + 4 * 768) == sum(tensor.numel() for tensor in tensors().values())


@pytest.mark.parametrize(
    ("values", "config", "said"),
    [
        ({}, {}, "is empty: it has no tensor"),
        (None, {"peft_type": "IA3"}, "peft_type must be LORA; found 'IA3'"),
        (None, {"r": 10**9}, "r is 1000000000, but adapter_model.safetensors has factors of rank 4"),
        (None, {"r": "4"}, "r must be a number from 1; found '4'"),
        (None, {"lora_alpha": float("nan")}, "lora_alpha must be a number up to 1,000,000; found nan"),
        (None, {"lora_alpha": None}, "lora_alpha must be a number"),
        (None, {"use_dora": True}, "use_dora=True is not supported"),
        (None, {"modules_to_save": ["lm_head"]}, "modules_to_save=['lm_head'] is not supported"),
        (None, {"bias": "all"}, "bias='all' is not supported"),
        (None, {"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern must be a mapping from names of modules"),
        (None, {"rank_pattern": 3}, "rank_pattern must be a mapping"),
        (None, {"base_model_name_or_path": 7}, "base_model_name_or_path must be a text; found 7"),
        (None, {"use_rslora": "yes"}, "use_rslora must be true or false; found 'yes'"),
        (changed(tensor=torch.full((4, 256), torch.nan)), {}, "has values that are not finite"),
        (changed(tensor=torch.full((4, 256), torch.inf, dtype=torch.bfloat16)), {}, "has values that are not finite"),
        (changed(tensor=torch.zeros(4, 256, dtype=torch.int32)), {}, "is of 'I32'; known: F32, F16, BF16"),
        (changed(tensor=torch.zeros(1024)), {}, "has the shape [1024]: a matrix is needed"),
        (changed(tensor=torch.ones(5, 256)), {}, "which are none of a low rank"),
        (changed(added={"base_model.model.lm_head.weight": torch.ones(2, 2)}), {}, "is no factor of a linear layer"),
        (changed(added={FIRST.replace("layers.0", "layers.9"): torch.ones(4, 256)}), {}, "has no base_model.model"),
        ({name: tensor * ("lora_A" in name) for name, tensor in tensors().items()}, {}, "changes nothing"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_mistake_is_one_line(
    tmp_path: Path, values: dict[str, torch.Tensor] | None, config: dict[str, Any], said: str
) -> None:
    folder = write(tmp_path / "a", values=values, config=config)
    with pytest.raises(ValueError, match=r".") as raised:
        read_adapter(folder)
    text = str(raised.value)
    assert said in text
    assert str(folder) in text
    assert "\n" not in text


def header(entries: object, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {FIRST: {"dtype": "F32", "shape": [4, 256], "data_offsets": [0, 4096]} | changes}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "its header is longer than the file"),
        (b"\xff" * 64, "its header is longer than the file"),
        (struct.pack("<Q", 4) + b"none", "its header is not JSON"),
        (header([1]), "its header is no mapping of tensors"),
        (header({FIRST: 3}), "its header is no mapping of tensors"),
        (header(entry(shape=[2**33, 2**33]), b"0" * 4096), "which the file has not"),
        (header(entry(shape=[4, True]), b"0" * 4096), "a matrix is needed"),
        (header(entry(data_offsets=[-4096, 0]), b"0" * 4096), "a matrix is needed"),
        (header(entry(data_offsets=[0]), b"0" * 4096), "a matrix is needed"),
        (header(entry(dtype=["F32"]), b"0" * 4096), "known: F32, F16, BF16"),
        (header(entry(), b"0" * 100), "which the file has not"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_file_of_tensors_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    folder = write(tmp_path / "a")
    (folder / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r".") as raised:
        read_adapter(folder)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def _empty(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("")


def _nested(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("[" * 100_000)


def _list(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("[]")


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _folder(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").mkdir()


def _model(folder: Path) -> None:
    (folder / "adapter_config.json").rename(folder / "config.json")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_empty, "cannot be read as JSON"),
        (_nested, "cannot be read as JSON"),
        (_list, "must hold a JSON object; found list"),
        (_pickled, "adapter_model.bin, which may run code: save it as safetensors"),
        (_folder, "is not a file"),
        (_model, "it holds a whole model: use model=local model.path"),
    ],
)
def test_a_wrong_folder_is_one_line(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(write(tmp_path / "a"))
    with pytest.raises(ValueError, match=r".") as raised:
        read_adapter(tmp_path / "a")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_options_of_later_versions_are_let_through(tmp_path: Path) -> None:
    later = {"use_new_thing": None, "peft_version": "9.0", "lora_dropout": 0.1}
    assert read_adapter(write(tmp_path / "a", config=later)).alpha == CONFIG["lora_alpha"]
