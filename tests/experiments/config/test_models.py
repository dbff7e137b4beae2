from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import inspect_folder, random_facts


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_facts_and_digest_of_a_folder(folder: Path, tmp_path: Path) -> None:
    facts = inspect_folder(folder, tmp_path)
    assert (facts.model_type, facts.vocabulary, facts.max_length) == ("llama", 128, 256)
    assert inspect_folder(folder, tmp_path).digest == facts.digest
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    assert inspect_folder(folder, tmp_path).digest != facts.digest


def test_a_truncated_file_is_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"model.safetensors is damaged"):
        inspect_folder(folder)


def test_a_folder_that_is_not_a_model_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no config\.json"):
        inspect_folder(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        inspect_folder(folder)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folder: Path, data_folder: Path) -> None:
    shutil.copy(data_folder / "stories260K" / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(UserError, match="the tokenizer does not fit the model"):
        inspect_folder(folder)


@pytest.mark.parametrize("key", ["max_position_embeddings", "n_positions"])
def test_a_random_models_length_has_either_name(key: str) -> None:
    assert random_facts({"model_type": "gpt2", "vocab_size": 64, key: 96}, 0).max_length == 96
