"""A GGUF file as `model.path`: its facts, its tokenizer beside others, and one line for what cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import inspect_folder, stored_parameters, title
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.execution.worker.loading import held_weights, load, make_runtime, make_text
from runtime_matrix.runtimes.base import Unsupported
from tests.gguf_files import write_gguf

pytest.importorskip("gguf", reason="the extra llamacpp is not installed")
pytest.importorskip("accelerate", reason="the extra offload is not installed")

MODEL = BUNDLED / "model"
PROBES = ("Once upon a time", "  two spaces, 1234.5 and\n\n\ttabs", "é 你好 \U0001f642", " x")
LONGEST = 420  # characters of a line


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(MODEL, tmp_path_factory.mktemp("gguf") / "bundled.gguf", "Q8_0")


def planned(artifacts: Path, file: Path, *words: str) -> Cell:
    given = ["model=local", f"model.path={file}", f"artifacts_dir={artifacts}", "benchmark=[latency]"]
    return plan(compose([*given, *words]), "")


def mistake(artifacts: Path, file: Path, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        planned(artifacts, file, *words)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) <= LONGEST
    return said


def copied(folder: Path, target: Path, **changes: Any) -> Path:
    """Return a copy of a model's folder with another config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_facts_are_those_of_the_folder(file: Path, artifacts: Path) -> None:
    facts, folder = planned(artifacts, file).facts, inspect_folder(MODEL)
    for name in ("model_type", "max_length", "vocabulary", "bos_id", "eos_ids", "shape"):
        assert getattr(facts, name) == getattr(folder, name), name
    assert (facts.quantized, facts.parameters) == ("gguf Q8_0", stored_parameters(MODEL))
    assert facts.weight_disk_bytes == file.stat().st_size
    assert title(facts, file.name) == "Llama 3.41M (bundled.gguf)"


def test_a_file_of_floats_is_not_quantized(tmp_path: Path, artifacts: Path, tiny_model: Path) -> None:
    assert planned(artifacts, write_gguf(tiny_model, tmp_path / "tiny.gguf", "F16")).facts.quantized is None


def test_the_digest_is_that_of_the_content(file: Path, tmp_path: Path, artifacts: Path, tiny_model: Path) -> None:
    digest = planned(artifacts, file).facts.digest
    assert planned(artifacts, Path(shutil.copy(file, tmp_path / "renamed.gguf"))).facts.digest == digest
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.gguf").write_bytes(content)
    assert planned(artifacts, tmp_path / "changed.gguf").facts.digest != digest


def test_a_flag_against_a_first_token_is_followed(tmp_path: Path, artifacts: Path) -> None:
    other = write_gguf(MODEL, tmp_path / "other.gguf", tokenizer__ggml__add_bos_token=False)
    assert planned(artifacts, other).facts.bos_id is None


def test_ids_are_those_of_the_folders_tokenizer(file: Path, artifacts: Path) -> None:
    ours, theirs = make_text(planned(artifacts, file)), Text(MODEL, 0, None)
    assert ours is not None
    for probe in PROBES:
        assert ours.encode(probe) == theirs.encode(probe)
        assert ours.decode(ours.encode(probe)) == probe
    assert len(ours.encode("<|endoftext|>")) > 1  # no token of the file


def test_ids_of_a_sentencepiece_tokenizer_are_those_of_its_folder(
    tmp_path: Path, artifacts: Path, data_folder: Path
) -> None:
    folder = data_folder / "stories260K"
    cell = planned(artifacts, write_gguf(folder, tmp_path / "s.gguf"), f"model.tokenizer={folder}")
    assert cell.facts.tokenizer == folder
    ours, theirs = make_text(planned(artifacts, tmp_path / "s.gguf")), make_text(cell)
    assert ours is not None
    assert theirs is not None
    for probe in PROBES:
        assert ours.encode(probe) == theirs.encode(probe)
        assert ours.decode(ours.encode(probe)) == probe
    spaceless = write_gguf(folder, tmp_path / "n.gguf", tokenizer__ggml__add_space_prefix=False)
    bare = make_text(planned(artifacts, spaceless))
    assert bare is not None
    assert bare.encode(" x") == ours.encode("x")
    assert bare.decode(bare.encode(" x")) == " x"


def test_another_tokenizer_is_refused(file: Path, tmp_path: Path, artifacts: Path) -> None:
    other = copied(MODEL, tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["merges"] = content["model"]["merges"][:500]
    (other / "tokenizer.json").write_text(json.dumps(content))
    said = mistake(artifacts, file, f"model.tokenizer={other}")
    assert said.startswith(f"the tokenizers of model.path and model.tokenizer={other} differ: for 'Once upon")
    assert "model.reference" in mistake(artifacts, file, f"model.reference={other}")
    assert "has no tokenizer.json" in mistake(artifacts, file, f"model.tokenizer={tmp_path}")


def test_rules_that_are_unknown_need_a_tokenizer_in_a_folder(tmp_path: Path, artifacts: Path) -> None:
    other = write_gguf(MODEL, tmp_path / "other.gguf", tokenizer__ggml__pre="unheard-of")
    facts = planned(artifacts, other).facts
    assert facts.tokenizer is None
    assert facts.tokenizer_problem == (
        "the tokenizer of other.gguf cannot be used: its rules for splitting words, unheard-of, are unknown here; "
        "pass model.tokenizer=DIR"
    )
    assert planned(artifacts, other, f"model.tokenizer={MODEL}").facts.tokenizer == MODEL
    assert planned(artifacts, other, f"model.reference={MODEL}").facts.tokenizer == MODEL


def test_a_file_without_a_tokenizer_has_none(tmp_path: Path, artifacts: Path, tiny_model: Path) -> None:
    problem = planned(artifacts, write_gguf(tiny_model, tmp_path / "tiny.gguf")).facts.tokenizer_problem
    assert problem == "the tokenizer of tiny.gguf cannot be used: it has none; pass model.tokenizer=DIR"


def test_the_reference_can_be_the_original_model(file: Path, artifacts: Path, tmp_path: Path, tiny_model: Path) -> None:
    cell = planned(artifacts, file, f"model.reference={MODEL}")
    of_reference = cell.of_reference
    assert of_reference.source.folder == MODEL
    assert of_reference.facts.tokenizer == cell.facts.tokenizer != MODEL
    assert planned(artifacts, file).of_reference.source.folder == file
    other = copied(MODEL, tmp_path / "other", rms_norm_eps=1e-3)
    assert planned(artifacts, file, f"model.reference={other}").config_hash != cell.config_hash
    assert "has a vocabulary of 128, the model has 2,048" in mistake(artifacts, file, f"model.reference={tiny_model}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama__context_length": -1.5}, "llama.context_length is -1.5, not a number from 1"),
        ({"llama__block_count": 0}, "llama.block_count is 0, not a number from 1"),
        ({"llama__vocab_size": 4096}, "it has 4,096 tokens by its vocab_size, and token_embd.weight has 2,048 rows"),
        ({"tokenizer__ggml__bos_token_id": 2048}, "tokenizer.ggml.bos_token_id is 2048, of 2,048 tokens"),
        ({"general__type": "adapter"}, "general.type is 'adapter', not 'model'"),
        ({"general__architecture": "../../etc"}, "general.architecture is '../../etc'"),
        ({"split__count": 3}, "it is one of 3 parts: join them with llama.cpp's llama-gguf-split --merge"),
    ],
)
def test_metadata_that_no_model_has_are_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, artifacts: Path
) -> None:
    assert message in mistake(artifacts, write_gguf(MODEL, tmp_path / "bad.gguf", **changes))


def test_paths_that_are_no_gguf_file_are_one_line(tmp_path: Path, artifacts: Path, file: Path) -> None:
    (tmp_path / "text.gguf").write_text("a text")
    (tmp_path / "folder.gguf").mkdir()
    assert "is not a GGUF file that can be read" in mistake(artifacts, tmp_path / "text.gguf")
    assert "is not a file" in mistake(artifacts, tmp_path / "folder.gguf")
    assert "is not a file" in mistake(artifacts, tmp_path / "missing.gguf")
    said = mistake(artifacts, tmp_path)
    assert said.endswith(f"has GGUF files and no config.json: name one, as in model.path={tmp_path / 'folder.gguf'}")
    for name in ("tokenizer", "reference"):
        assert f"model.{name} would be ignored" in mistake(artifacts, MODEL, f"model.{name}={MODEL}")


def test_without_the_package_the_extra_is_named(file: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    assert mistake(artifacts, file).endswith("needs gguf: pip install 'runtime-matrix[llamacpp]'")


@pytest.mark.parametrize("weights", ["torchao_int8", "gptq"])
def test_weights_that_would_replace_those_of_the_file_are_unsupported(
    weights: str, file: Path, artifacts: Path
) -> None:
    cell = planned(artifacts, file, f"runtime/weights={weights}")
    runtime: Any = make_runtime(cell.config.runtime)
    with pytest.raises(Unsupported, match=r"bundled.gguf already holds its weights, which .* would replace"):
        load(cell, runtime, cell.config.runtime, cell.hardware("cpu"), lambda name: pytest.fail(name))


def test_dequantized_weights_are_dense_and_an_own_readers_are_not(file: Path, artifacts: Path) -> None:
    config = planned(artifacts, file).config.runtime
    assert held_weights(config, "gguf Q8_0", is_gguf=True).is_dense
    assert not held_weights(config, "gptq").is_dense
