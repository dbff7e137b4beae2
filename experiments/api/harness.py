"""The model `runtime_matrix` of lm-evaluation-harness: `model_args` in, a runtime loaded in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.registry import register_model

from runtime_matrix.experiments.api.model import Model, load
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import chunks, score
from runtime_matrix.experiments.harness.encoding import HarnessTokenizer
from runtime_matrix.experiments.harness.language_model import HarnessLM, HarnessOptions

NAME = "runtime_matrix"
ARGUMENTS = (
    *("runtime", "model_path", "dtype", "threads", "weights", "placement", "max_length", "max_gen_toks"),
    *("add_bos_token", "prefix_token_id", "think_end_token", "enable_thinking", "chat_template_args"),
)
# lm-eval's command line always names a device, CUDA by default: it is used if there is one.
_DEVICES = {None: "auto", "auto": "auto", "cpu": "cpu", "cuda": "auto", "cuda:0": "auto"}


@register_model(NAME)
class RuntimeMatrixLM(HarnessLM):
    """Loads a model under a runtime. `batch_size` has no effect: batches follow `scoring.token_budget`.

    `overrides`: any option of `python -m experiments.run` whose name has a dot or a slash, such as
    `scoring.token_budget` and `runtime/weights`. Raises UserError for a mistake.
    """

    def __init__(
        self,
        runtime: str = "eager",
        model_path: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        weights: str | None = None,
        placement: str | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        think_end_token: str | None = None,
        enable_thinking: bool | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **overrides: Any,
    ):
        options = {
            "model.path": model_path,
            "runtime.dtype": dtype,
            "hw.threads": threads,
            "hw.device": _device(device),
            "runtime/weights": weights,
            "runtime/placement": placement,
            **_checked(overrides),
        }
        words = [_word(key, value) for key, value in options.items() if value is not None]
        self.model = load(str(runtime), *(["model=local"] if model_path is not None else []), *words)
        cell = self.model.cell
        assert cell.facts.tokenizer is not None  # `load` refuses models without a tokenizer
        thinking = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        super().__init__(
            _Loaded(self.model),
            HarnessTokenizer(cell.facts.tokenizer, add_bos_token, prefix_token_id),
            cell.facts.max_length,
            HarnessOptions(
                max_length=_checked_length(max_length, cell.facts.max_length),
                max_gen_toks=max_gen_toks,
                think_end_token=think_end_token,
                chat_template_args={**(chat_template_args or {}), **thinking},
            ),
            cell.config.seed,
        )

    def get_model_info(self) -> dict[str, object]:
        """Return what lm-eval adds to the configuration in its results."""
        cell = self.model.cell
        return {
            "model_num_parameters": None,
            "model_dtype": self.model.traits.dtype,
            "model_revision": None,
            "model_sha": cell.facts.digest,
            "runtime": cell.config.runtime.title,
        }


class _Loaded:
    """Answers with a loaded model, a window of requests at a time."""

    def __init__(self, model: Model):
        self._model = model

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        options = self._model.cell.config.scoring
        windows = chunks(requests, options.planning_window)
        runtime, traits = self._model.runtime, self._model.traits
        return [scored for window in windows for scored in score(runtime, traits, window, options)]

    def generate(self, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> list[Generated]:
        model, cell = self._model, self._model.cell
        eos_ids, options = (*cell.facts.eos_ids, *stop_ids), cell.config.generation
        texts = generate(model.runtime, model.traits, requests, model.text.piecewise, eos_ids, options)
        return [text for (text,) in texts]


def _checked(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in overrides:
        if "." not in key and "/" not in key:
            raise UserError(
                f"model_args: {key} is unknown{did_you_mean(key, ARGUMENTS)}; options of `run` have a dot or a slash, "
                "such as scoring.token_budget"
            )
    return overrides


def _checked_length(max_length: int | None, limit: int | None) -> int | None:
    if max_length is not None and not (isinstance(max_length, int) and 1 < max_length <= (limit or max_length)):
        raise UserError(f"model_args: max_length={max_length} must be from 2 to the model's length of {limit}")
    return max_length


def _device(device: str | None) -> str:
    if device not in _DEVICES:
        raise UserError(f"device={device} is unknown: use cpu or cuda; CUDA_VISIBLE_DEVICES chooses one of several")
    return _DEVICES[device]


def _word(key: str, value: object) -> str:
    """Return an override in Hydra's grammar; texts are quoted, but the name of a preset cannot be."""
    if isinstance(value, str) and "/" not in key:
        return f"{key}='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"
