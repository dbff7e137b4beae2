"""A model of lm-evaluation-harness over any runtime; answers equal those of its `hf` backend up to rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jinja2
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import DEFAULT_MAX_LENGTH, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, Scored, ScoreRequest
from runtime_matrix.experiments.harness.encoding import HarnessTokenizer
from runtime_matrix.experiments.harness.shared_prefixes import shared_prefixes
from runtime_matrix.experiments.harness.text_options import TextOptions, text_options

LogLikelihood = tuple[float, bool]  # in nats, and whether greedy decoding gives the same tokens
Encoded = tuple[Any, list[int], list[int]]  # (the request's key in lm-eval's cache, context, continuation)


class Answering(Protocol):
    """A loaded runtime that answers requests."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        """Return one result per request, in their order."""
        ...

    def generate(self, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> list[Generated]:
        """Return one text per request; `stop_ids` end a text besides the model's own end-of-text tokens."""
        ...


@dataclass(frozen=True)
class HarnessOptions:
    """What users may set; None: as the model's files say."""

    max_length: int | None = None  # tokens of a row; longer contexts are truncated on the left
    max_gen_toks: int = 256  # for tasks that set no length
    think_end_token: str | None = None  # a text's answer begins after it
    chat_template_args: Mapping[str, Any] | None = None


class HarnessLM(TemplateLM):  # type: ignore[misc] # lm-eval has no types
    """Answers with `answering`. `batch_size` of lm-eval has no effect: batches follow the token budget."""

    def __init__(
        self, answering: Answering, tokenizer: HarnessTokenizer, limit: int | None, options: HarnessOptions, seed: int
    ):
        super().__init__()
        self.tokenizer = tokenizer.inner  # read by TemplateLM
        self._answering, self._encoder, self._options, self._seed = answering, tokenizer, options, seed
        self.max_length = options.max_length or limit or DEFAULT_MAX_LENGTH
        self.cut_contexts = 0  # that were truncated so far, one per row

    @property
    @override
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    @override
    def prefix_token_id(self) -> int:
        return self._encoder.prefix_token_id

    @property
    @override
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @override
    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self._encoder.encode_all([string], add_special_tokens)[0]

    # Log-likelihoods

    @override
    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[LogLikelihood]:
        pairs = [request.args for request in requests]
        encoded = self._encoder.encode_pairs(pairs)
        return self._loglikelihood_tokens([(pair, *ids) for pair, ids in zip(pairs, encoded, strict=True)])

    @override
    def _loglikelihood_tokens(self, requests: list[Encoded], **_: Any) -> list[LogLikelihood]:
        rows = [self._row(*request) for request in requests]
        contexts = list(dict.fromkeys(context for context, _ in rows))
        lengths = dict(zip(contexts, shared_prefixes(contexts), strict=True))
        prefixes: dict[tuple[int, ...], tuple[int, ...]] = {}  # so that memory holds each once
        score_requests = []
        for context, continuation in rows:
            length = lengths[context]
            prefix = prefixes.setdefault(context[:length], context[:length])
            score_requests.append(ScoreRequest((*context[length:], *continuation), len(context) - length, prefix))
        # Rows of one prefix and one context follow each other, so that they are planned together.
        order = sorted(range(len(rows)), key=lambda index: rows[index][0])
        scored = dict(zip(order, self._answering.score([score_requests[index] for index in order]), strict=True))
        answers = [_log_likelihood(scored[index]) for index in range(len(rows))]
        for request, answer in zip(requests, answers, strict=True):
            if request[0] is not None:
                self.cache_hook.add_partial("loglikelihood", request[0], answer)
        return answers

    def _row(self, key: Any, context: list[int], continuation: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return context and continuation within the model's length; the last token is scored but never run."""
        if not 0 < len(continuation) <= self.max_length:
            text = "" if key is None else f" {key[1][:40]!r}"
            raise UserError(
                f"a continuation{text} has {len(continuation)} tokens; the model scores 1 to {self.max_length}: "
                "change the task, or raise max_length"
            )
        context = context or [self.prefix_token_id]
        room = self.max_length + 1 - len(continuation)
        self.cut_contexts += len(context) > room
        return tuple(context[-room:]), tuple(continuation)

    @override
    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        texts = [request.args[0] for request in requests]
        windows: list[Encoded] = []
        owners: list[int] = []
        for index, ids in enumerate(self._encoder.encode_all(texts)):
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(index)
        totals = [0.0] * len(texts)
        for index, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[index] += logprob
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    # Texts

    @override
    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        options = [text_options(request.args[1], self._options.max_gen_toks, self._encoder) for request in requests]
        generate_requests = self._generate_requests([request.args[0] for request in requests], options)
        by_stop: dict[tuple[int, ...], list[int]] = {}
        for index, option in enumerate(options):
            by_stop.setdefault(option.stop_ids, []).append(index)
        texts = [""] * len(requests)
        for stop_ids, chosen in by_stop.items():
            results = self._answering.generate([generate_requests[index] for index in chosen], stop_ids)
            for index, result in zip(chosen, results, strict=True):
                texts[index] = self._text(result, options[index])
                self.cache_hook.add_partial("generate_until", requests[index].args, texts[index])
        return texts

    def _generate_requests(self, contexts: Sequence[str], options: Sequence[TextOptions]) -> list[GenerateRequest]:
        seen: Counter[str] = Counter()
        result = []
        for context, ids, option in zip(contexts, self._encoder.encode_all(contexts), options, strict=True):
            room = self.max_length - option.max_new_tokens
            if room < 1:
                raise UserError(
                    f"max_gen_toks={option.max_new_tokens} must be less than the model's length of {self.max_length}: "
                    "lower it, as in --gen_kwargs max_gen_toks=64"
                )
            seeds = (option.seed(self._seed, context, seen[context]),)
            seen[context] += 1
            self.cut_contexts += len(ids) > room
            result.append(
                GenerateRequest(
                    tuple(ids[-room:]), option.max_new_tokens, option.stop, option.temperature, option.top_p, seeds
                )
            )
        return result

    def _text(self, result: Generated, options: TextOptions) -> str:
        text = self._encoder.decode(result.ids)
        return str(postprocess_generated_text(text, list(options.stop), self._options.think_end_token))

    @override
    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if self.tokenizer.chat_template is None:
            raise UserError("the model's tokenizer has no chat template: leave apply_chat_template out")
        options = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
            **(self._options.chat_template_args or {}),
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **options))
        except jinja2.TemplateError:  # some templates know no system message
            history = [message for message in chat_history if message["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(history, **options))


def _log_likelihood(scored: Scored) -> LogLikelihood:
    return scored.total, all(margin == 0 for margin in scored.top1_margins)
