"""Texts over HTTP are those of `generate` in this process, whole or as a stream."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.serving.served import Served
from tests.experiments.serving.server import events

PROMPTS = ("Once upon a time", "Tom has 3 apples and", "def add(a, b):")
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
Json = dict[str, Any]


def post(http: httpx.Client, path: str, body: Json) -> Any:
    reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def in_process(bundled: Served, request: GenerateRequest) -> list[Generated]:
    """Return the texts of one request; the scheduler is idle meanwhile."""
    assert bundled.text is not None
    (texts,) = generate(bundled.runtime, bundled.traits, [request], bundled.text.piecewise, (1,))
    return texts


def sent(text: Generated) -> list[int]:
    """Return the ids that the server sends, with the one that ends the text."""
    return [*text.ids, *([1] if text.finished_by == "eos" else [])]


def ids(bundled: Served, prompt: str) -> tuple[int, ...]:
    return bundled.encode(prompt, with_bos=True)


def test_a_list_of_prompts_gives_the_texts_of_this_process(http: httpx.Client, bundled: Served) -> None:
    body = {"model": "bundled", "prompt": list(PROMPTS), "max_tokens": 24, "temperature": 0, "return_token_ids": True}
    reply = post(http, COMPLETIONS, body)
    expected = [in_process(bundled, GenerateRequest(ids(bundled, prompt), 24))[0] for prompt in PROMPTS]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert [choice["text"] for choice in reply["choices"]] == [text.text for text in expected]
    assert [choice["token_ids"] for choice in reply["choices"]] == [sent(text) for text in expected]
    assert [tuple(choice["prompt_token_ids"]) for choice in reply["choices"]] == [ids(bundled, p) for p in PROMPTS]
    prompt_tokens, new = sum(len(ids(bundled, p)) for p in PROMPTS), sum(len(sent(text)) for text in expected)
    assert reply["usage"] == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new,
        "total_tokens": prompt_tokens + new,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    by_ids = post(http, COMPLETIONS, body | {"prompt": [list(ids(bundled, prompt)) for prompt in PROMPTS]})
    assert by_ids["choices"] == reply["choices"]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"temperature": 0.8, "top_p": 0.9, "seed": 7, "n": 3},
        {"temperature": 0, "stop": [" the", "\n"]},
        {"temperature": 0, "ignore_eos": True, "logprobs": 2},
    ],
    ids=["greedy", "samples", "stop", "logprobs"],
)
def test_a_stream_is_the_reply_in_parts(http: httpx.Client, bundled: Served, options: Json) -> None:
    body = {"prompt": PROMPTS[0], "max_tokens": 20, "return_token_ids": True, **options}
    whole = post(http, COMPLETIONS, body)
    streamed = http.post(COMPLETIONS, json={**body, "stream": True, "stream_options": {"include_usage": True}})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *parts, last = events(streamed)
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    for choice in whole["choices"]:
        own = [part["choices"][0] for part in parts if part["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in own) == choice["text"]
        assert [token for part in own for token in part["token_ids"]] == choice["token_ids"]
        assert [part["finish_reason"] for part in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        if choice["logprobs"] is not None:
            for name, values in choice["logprobs"].items():
                assert [value for part in own for value in part["logprobs"][name]] == values, name
    request = GenerateRequest(
        ids(bundled, PROMPTS[0]),
        20,
        tuple(options.get("stop", ())),
        options["temperature"],
        options.get("top_p", 1.0),
        tuple(range(7, 10)) if "n" in options else (0,),
        options.get("ignore_eos", False),
    )
    expected = in_process(bundled, request)
    assert [choice["text"] for choice in whole["choices"]] == [text.text for text in expected]
    reasons = {"length": "length", "stop": "stop", "eos": "stop"}
    assert [choice["finish_reason"] for choice in whole["choices"]] == [reasons[t.finished_by] for t in expected]


def test_without_a_seed_samples_differ(http: httpx.Client) -> None:
    body = {"prompt": PROMPTS[0], "max_tokens": 24}
    assert len({post(http, COMPLETIONS, body)["choices"][0]["text"] for _ in range(3)}) > 1


@pytest.mark.parametrize("form", ["text", "ids"])
def test_echo_and_prompt_logprobs_are_the_scores_of_this_process(
    http: httpx.Client, bundled: Served, form: str
) -> None:
    prompts = [list(ids(bundled, prompt)) for prompt in PROMPTS]
    body: Json = {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 2, "prompt_logprobs": 1}
    body["prompt"] = list(PROMPTS) if form == "text" else prompts
    reply = post(http, COMPLETIONS, body)
    for prompt, text, choice in zip(prompts, PROMPTS, reply["choices"], strict=True):
        (scored,) = score(bundled.runtime, bundled.traits, [ScoreRequest(tuple(prompt), 1)])
        arrays = choice["logprobs"]
        count = len(prompt) + 1
        assert {len(values) for values in arrays.values()} == {count}
        assert arrays["token_logprobs"][0] is arrays["top_logprobs"][0] is None
        assert arrays["token_logprobs"][1:-1] == pytest.approx(scored.logprobs, abs=1e-4)
        margins = [
            max(top.values()) - own
            for top, own in zip(arrays["top_logprobs"][1:-1], arrays["token_logprobs"][1:-1], strict=True)
        ]
        assert margins == pytest.approx(scored.top1_margins, abs=1e-4)
        assert choice["text"].startswith(text)
        assert all(
            choice["text"][at:].startswith(token)
            for at, token in list(zip(arrays["text_offset"], arrays["tokens"], strict=True))[1:]
        )
        first, *rows = choice["prompt_logprobs"]
        assert first is None
        own = [row[str(token)] for row, token in zip(rows, prompt[1:], strict=True)]
        assert [value["logprob"] for value in own] == arrays["token_logprobs"][1:-1]
        for row, value in zip(rows, own, strict=True):
            assert (value["rank"] == 1) == (value["logprob"] == max(other["logprob"] for other in row.values()))
            assert len(row) == (1 if value["rank"] == 1 else 2)


def test_a_prompt_is_scored_without_new_tokens(http: httpx.Client, bundled: Served) -> None:
    (choice,) = post(http, COMPLETIONS, {"prompt": PROMPTS[0], "max_tokens": 0, "echo": True, "logprobs": 0})["choices"]
    assert choice["text"] == PROMPTS[0]
    assert len(choice["logprobs"]["tokens"]) == len(ids(bundled, PROMPTS[0]))
    assert all(len(top) == 1 for top in choice["logprobs"]["top_logprobs"][1:])


def test_tokens_can_be_named_by_their_ids(http: httpx.Client) -> None:
    body = {"prompt": PROMPTS[0], "max_tokens": 2, "temperature": 0, "logprobs": 5000}
    body |= {"return_tokens_as_token_ids": True, "return_token_ids": True}
    (choice,) = post(http, COMPLETIONS, body)["choices"]
    assert choice["logprobs"]["tokens"] == [f"token_id:{token}" for token in choice["token_ids"]]
    assert [len(top) for top in choice["logprobs"]["top_logprobs"]] == [2048, 2048]  # the vocabulary


def test_loglikelihood_is_the_score_of_this_process(http: httpx.Client, bundled: Served) -> None:
    pairs = [("Once upon", " a time"), ("Once upon", " the river"), ("The town is by the", " river.")]
    reply = post(http, "/loglikelihood", [{"context": c, "continuation": e} for c, e in pairs])  # type: ignore[arg-type]
    for (context, ending), result in zip(pairs, reply, strict=True):
        whole, start = ids(bundled, context + ending), len(ids(bundled, context))
        (scored,) = score(bundled.runtime, bundled.traits, [ScoreRequest(whole, start)])
        assert result["tokens"] == list(whole[start:])
        assert result["logprobs"] == pytest.approx(scored.logprobs, abs=1e-4)
        assert result["total"] == pytest.approx(scored.total, abs=1e-4)
        assert result["is_greedy"] is (max(scored.top1_margins) == 0)
        by_ids = {"context": list(whole[:start]), "continuation": list(whole[start:])}
        assert post(http, "/loglikelihood", by_ids)["total"] == pytest.approx(result["total"], abs=1e-4)
    context = "Once upon a time"
    (text,) = in_process(bundled, GenerateRequest(ids(bundled, context), 3))
    by_ids = {"context": list(ids(bundled, context)), "continuation": list(text.ids)}
    assert post(http, "/loglikelihood", by_ids)["is_greedy"] is True


def test_a_chat_is_rendered_by_the_template(http: httpx.Client, bundled: Served) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Tell me of the river."}]}]
    body = {"messages": messages, "max_tokens": 12, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    reply = post(http, CHAT, body)
    prompt = ids(bundled, "user: Tell me of the river.\nassistant:")
    assert reply["usage"]["prompt_tokens"] == len(prompt)
    (expected,) = in_process(bundled, GenerateRequest(prompt, 12))
    (choice,) = reply["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    (scored,) = score(bundled.runtime, bundled.traits, [ScoreRequest((*prompt, *expected.ids), len(prompt))])
    content = choice["logprobs"]["content"]
    assert [token["logprob"] for token in content] == pytest.approx(scored.logprobs, abs=1e-4)
    assert [bytes(token["bytes"]).decode() for token in content] == [token["token"] for token in content]
    assert all(len(token["top_logprobs"]) == 2 for token in content)
    first, *parts = events(http.post(CHAT, json={**body, "stream": True}))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(part["choices"][0]["delta"]["content"] for part in parts) == expected.text
    assert parts[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


def test_texts_are_tokenized_as_for_the_benchmarks(http: httpx.Client, bundled: Served) -> None:
    text = "Zürich is by the river."
    reply = post(http, "/tokenize", {"model": "bundled", "prompt": text})
    assert reply["tokens"] == list(ids(bundled, text))
    assert (reply["count"], reply["max_model_len"]) == (len(reply["tokens"]), 1024)
    bare = post(http, "/tokenize", {"content": text, "add_special": False})["tokens"]
    assert bare == reply["tokens"][1:]
    assert post(http, "/detokenize", {"tokens": bare})["prompt"] == text


def test_the_model_is_listed(http: httpx.Client) -> None:
    (model,) = http.get("/v1/models").json()["data"]
    assert (model["id"], model["max_model_len"]) == ("bundled", 1024)
    assert http.get("/health").json() == {"status": "ok"}


def test_the_counters_count(http: httpx.Client) -> None:
    def read() -> dict[str, float]:
        lines = [line.split() for line in http.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name.removeprefix("runtime_matrix_server_"): float(value) for name, value in lines}

    before = read()
    body = {"prompt": [[5, 6, 7], [8, 9]], "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    post(http, COMPLETIONS, body)
    gained = {name: value - before[name] for name, value in read().items()}
    assert (gained["prompt_tokens_total"], gained["generated_tokens_total"]) == (5, 12)
    assert (gained["requests_finished_total"], gained["requests_open"]) == (2, 0)
    assert gained["busy_seconds_total"] > 0


def test_the_token_that_ends_a_text_is_told(http: httpx.Client, bundled: Served) -> None:
    """lm-eval asks for one token and drops the last log-probability, which must not be one of the prompt."""
    (whole,) = in_process(bundled, GenerateRequest(ids(bundled, PROMPTS[0]), 24))
    prompt = [*ids(bundled, PROMPTS[0]), *whole.ids]
    body: Json = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    reply = post(http, COMPLETIONS, body | {"return_token_ids": True})
    (choice,) = reply["choices"]
    (expected,) = in_process(bundled, GenerateRequest(tuple(prompt), 1))
    assert (expected.finished_by, expected.ids) == ("eos", ())
    assert (choice["finish_reason"], choice["token_ids"], choice["text"]) == ("stop", [1], bundled.decode(prompt))
    assert len(choice["logprobs"]["token_logprobs"]) == len(prompt) + 1
    assert choice["logprobs"]["tokens"][-1] == "</s>"
    assert reply["usage"]["completion_tokens"] == 1
