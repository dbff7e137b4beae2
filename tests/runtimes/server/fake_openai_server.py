"""A fake server with the OpenAI API over a toy model: four dialects, and faults on demand. For tests alone."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override

from tests.runtimes.server.toy_model import ToyModel

Json = dict[str, Any]
DIALECTS = ("vllm", "llama", "text", "legacy")
MODEL = "toy"


@dataclass(frozen=True)
class Fault:
    """What the server does with one call. Unset: it answers well."""

    status: int = 200
    message: str = "scripted"
    headers: tuple[tuple[str, str], ...] = ()
    change: Callable[[Json], Any] | None = None  # applied to a reply, or to each event of a stream
    raw: bytes | None = None  # the body, instead of JSON
    stalls: bool = False  # until the client leaves
    resets: str = ""  # "before" or "within" the reply
    events: int | None = None  # of a stream, before it ends, resets or stalls


GOOD = Fault()


@dataclass
class FakeServer:
    """Answers in one dialect. `faults` is asked for each generation: (number since the start, body)."""

    dialect: str = "vllm"
    model: ToyModel = field(default_factory=ToyModel)
    key: str | None = None  # that callers must send
    names: tuple[str, ...] = (MODEL,)
    max_length: int | None = 256
    tokenizer: Any = None  # of `tokenizers`; None: texts are ids in words
    ignores: frozenset[str] = frozenset()  # fields that are ignored with status 200
    end_of_text: str | None = None  # None: as the dialect has it
    token_s: float = 0.0005  # between two tokens of a stream
    caches: bool | None = None  # whether prompts are cached; None: it does not tell
    faults: Callable[[int, Json], Fault] = lambda number, body: GOOD  # dataclass field

    def __post_init__(self) -> None:
        self.bodies: list[Json] = []  # of generations
        self.headers: list[dict[str, str]] = []
        self.connections = self.disconnects = self.in_flight = self.most_in_flight = 0
        self.lock, self.closed = threading.Lock(), threading.Event()
        self.left = threading.Semaphore(0)  # released by each disconnect that was seen
        self._seen_prompts: set[tuple[int, ...]] = set()
        self._http = _Http(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *raised: object) -> None:
        self.closed.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def forget(self) -> None:
        """Start all counts again, after a client has been loaded."""
        with self.lock:
            self.bodies.clear()
            self.headers.clear()
            self.connections = self.disconnects = self.most_in_flight = 0

    def ids(self, prompt: Any) -> list[int]:
        """Return the ids of a prompt."""
        if not isinstance(prompt, str):
            return list(prompt)
        if self.tokenizer is not None:
            return list(self.tokenizer.encode(prompt).ids)
        return [int(word) for word in prompt.split()]

    def words(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without the end of text."""
        shown = [token for token in ids if token != self.model.eos]
        return self.tokenizer.decode(shown) if self.tokenizer is not None else "".join(f" {token}" for token in shown)

    def cached(self, ids: Sequence[int]) -> int | None:
        """Return how many tokens of a prompt were seen before."""
        if self.caches is None:
            return None
        was_seen = self.caches and tuple(ids) in self._seen_prompts
        self._seen_prompts.add(tuple(ids))
        return len(ids) - 1 if was_seen else 0


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], fake: FakeServer):
        super().__init__(address, _Handler)
        self.fake = fake

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave in mid-reply here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    @override
    def setup(self) -> None:
        super().setup()
        with self.fake.lock:
            self.fake.connections += 1

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def fake(self) -> FakeServer:
        return self.server.fake

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path == "/v1/models":
            rows = [{"id": name, "max_model_len": self.fake.max_length} for name in self.fake.names]
            self._send_json({"data": rows})
        elif self.path == "/metrics" and self.fake.dialect in ("vllm", "llama"):
            page = b'# TYPE calls counter\ncalls_total{code="200"} 2\ncalls_total{code="400"} 1\nbusy 0.5\n'
            self._send(200, page, "text/plain")
        else:
            self._send_json({"error": {"message": "not found"}}, 404)

    def do_POST(self) -> None:
        fake = self.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._is_refused():
            return
        if self.path == "/tokenize" and fake.dialect in ("vllm", "llama"):
            self._send_json({"tokens": fake.ids(body["prompt"])})
            return
        with fake.lock:
            number = len(fake.bodies)
            fake.bodies.append(body)
            fake.headers.append(dict(self.headers))
            fake.in_flight += 1
            fake.most_in_flight = max(fake.in_flight, fake.most_in_flight)
        try:
            self._answer(body, fake.faults(number, body))
        except ConnectionError:
            self._note_left()
        finally:
            with fake.lock:
                fake.in_flight -= 1

    def _is_refused(self) -> bool:
        if self.fake.key is None or self.headers.get("Authorization") == f"Bearer {self.fake.key}":
            return False
        self._send_json({"error": {"message": f"wrong key {self.headers.get('Authorization')}"}}, 401)
        return True

    def _answer(self, body: Json, fault: Fault) -> None:
        if fault.resets == "before":
            self._reset()
        elif fault.status != 200:
            self._send_json({"error": {"message": fault.message}}, fault.status, fault.headers)
        elif fault.raw is not None:
            self._send(200, fault.raw)
        elif body.get("stream"):
            self._stream(body, fault)
        elif fault.stalls:
            self._wait_until_left()
        else:
            status, reply = self._whole(body)
            content = json.dumps(reply if fault.change is None or status != 200 else fault.change(reply)).encode()
            if fault.resets == "within":
                self._head(200, len(content))
                self.wfile.write(content[: len(content) // 2])
                self._reset()
            else:
                self._send(status, content)

    def _whole(self, body: Json) -> tuple[int, Any]:
        prompts = self._prompts(body)
        if isinstance(prompts, str):
            return 400, {"error": {"message": prompts}}
        if self.path == "/completion":
            if self.fake.dialect != "llama":
                return 404, {"error": "not found"}
            replies = [self._llama(index, ids, body) for index, ids in enumerate(prompts)]
            return 200, replies if isinstance(body["prompt"][0], list) else replies[0]
        choices = [self._choice(index, ids, body) for index, ids in enumerate(prompts)]
        new = sum(len(self._new(ids, body)[0]) for ids in prompts)
        return 200, {"choices": choices, "usage": self._usage(prompts, new)}

    def _prompts(self, body: Json) -> list[list[int]] | str:
        """Return the ids of the prompts, or why they are refused."""
        prompt = body["prompt"]
        if not isinstance(prompt, str) and self.fake.dialect == "text":
            return "prompt must be a string"
        is_one = isinstance(prompt, str) or isinstance(prompt[0], int)
        prompts = [self.fake.ids(one) for one in ([prompt] if is_one else prompt)]
        longest = max(map(len, prompts)) + int(body.get("max_tokens") or body.get("n_predict") or 0)
        if self.fake.max_length is not None and longest > self.fake.max_length:
            return f"{longest} tokens are more than the context of {self.fake.max_length}"
        return prompts

    def _new(self, ids: Sequence[int], body: Json) -> tuple[list[int], str]:
        """Return the new tokens, and the reason of the end: eos, stop or length."""
        fake = self.fake
        wanted = {key: value for key, value in body.items() if key not in fake.ignores}
        own = {"vllm": "ignored", "llama": "banned"}.get(fake.dialect, "ends")
        end = (fake.end_of_text or own) if wanted.get("ignore_eos") else "ends"
        most = wanted.get("n_predict" if self.path == "/completion" else "max_tokens") or 16
        seed = None if not body.get("temperature") else wanted.get("seed", len(fake.bodies))
        new, has_ended = fake.model.text(ids, most, end=end, seed=seed)
        for count in range(1, len(new) + 1):
            if any(stop in fake.words(new[:count]) for stop in body.get("stop") or ()):
                return new[:count], "stop"
        return new, "eos" if has_ended else "length"

    def _text(self, new: Sequence[int], body: Json) -> str:
        text = self.fake.words(new)
        ends = [text.find(stop) for stop in body.get("stop") or () if stop in text]
        return text[: min(ends)] if ends else text

    def _choice(self, index: int, ids: list[int], body: Json) -> Json:
        fake, model = self.fake, self.fake.model
        new, reason = self._new(ids, body)
        choice: Json = {"index": index, "text": self._text(new, body)}
        choice["finish_reason"] = "length" if reason == "length" else "stop"
        count = body.get("logprobs") or 0
        if fake.dialect == "vllm":
            if body.get("return_token_ids") and "return_token_ids" not in fake.ignores:
                choice["token_ids"] = new
            if "prompt_logprobs" in body and "prompt_logprobs" not in fake.ignores:
                choice["prompt_logprobs"] = [None, *(self._row(ids[:at], ids[at]) for at in range(1, len(ids)))]
        if fake.dialect == "llama" and count:
            choice["logprobs"] = {"content": [self._content(ids + new[:at], new[at], count) for at in range(len(new))]}
        elif fake.dialect in ("vllm", "legacy") and count and "logprobs" not in fake.ignores:
            is_echo = bool(body.get("echo")) and "echo" not in fake.ignores
            start = 0 if is_echo else len(ids)
            whole = ids + new
            rows = [self._tops(whole[:at], count, body) if at else None for at in range(start, len(whole))]
            own = [model.logprob(whole[:at], whole[at]) if at else None for at in range(start, len(whole))]
            choice["logprobs"] = {"token_logprobs": own, "top_logprobs": rows}
        return choice

    def _row(self, before: list[int], token: int) -> Json:
        model = self.fake.model
        return {str(one): {"logprob": model.logprob(before, one)} for one in {token, model.top(before)}}

    def _tops(self, before: list[int], count: int, body: Json) -> Json:
        name = "token_id:{}" if body.get("return_tokens_as_token_ids") and self.fake.dialect == "vllm" else "<{}>"
        return {name.format(one): self.fake.model.logprob(before, one) for one in self.fake.model.order(before, count)}

    def _content(self, before: list[int], token: int, count: int) -> Json:
        model = self.fake.model
        tops = [{"id": one, "logprob": model.logprob(before, one)} for one in model.order(before, count)]
        return {"id": token, "logprob": model.logprob(before, token), "top_logprobs": tops}

    def _llama(self, index: int, ids: list[int], body: Json) -> Json:
        new, reason = self._new(ids, body)
        ends = {"eos": "eos", "stop": "word", "length": "limit"}
        return {
            **{"index": index, "content": self._text(new, body), "stop": True, "stop_type": ends[reason]},
            **{"tokens": new if body.get("return_tokens") and "return_tokens" not in self.fake.ignores else []},
            **{"tokens_evaluated": len(ids), "tokens_predicted": len(new)},
            **({} if self.fake.caches is None else {"timings": {"cache_n": self.fake.cached(ids)}}),
        }

    def _usage(self, prompts: Sequence[Sequence[int]], new: int) -> Json:
        counts: Json = {"prompt_tokens": sum(map(len, prompts)), "completion_tokens": new}
        cached = self.fake.cached(prompts[0])
        return counts if cached is None else counts | {"prompt_tokens_details": {"cached_tokens": cached}}

    def _stream(self, body: Json, fault: Fault) -> None:
        prompts = self._prompts(body)
        if isinstance(prompts, str):
            self._send_json({"error": {"message": prompts}}, 400)
            return
        self._head(200, None, "text/event-stream")
        for number, event in enumerate(self._events(prompts[0], body)):
            if number == fault.events:
                break
            self.fake.closed.wait(self.fake.token_s)
            changed = event if fault.change is None else fault.change(event)
            self._chunk(b"data: " + json.dumps(changed).encode() + b"\n\n")
        if fault.stalls:
            self._wait_until_left()
        elif fault.resets:
            self._reset()
        else:
            if fault.events is None:
                self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")

    def _events(self, ids: list[int], body: Json) -> Iterator[Json]:
        new, reason = self._new(ids, body)
        for at, token in enumerate(new):
            piece = self.fake.words(new[: at + 1]).removeprefix(self.fake.words(new[:at]))
            if self.path == "/completion":
                yield {"index": 0, "content": piece, "tokens": [token], "stop": False}
                continue
            choice: Json = {"index": 0, "text": piece, "finish_reason": None}
            if body.get("return_token_ids") and "return_token_ids" not in self.fake.ignores:
                choice["token_ids"] = [token]
            yield {"choices": [choice]}
        if self.path == "/completion":
            yield {**self._llama(0, ids, body), "content": "", "tokens": []}
            return
        yield {"choices": [{"index": 0, "text": "", "finish_reason": "length" if reason == "length" else "stop"}]}
        yield {"choices": [], "usage": self._usage([ids], len(new))}

    # What is sent

    def _send_json(self, reply: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._send(status, json.dumps(reply).encode(), headers=headers)

    def _send(
        self, status: int, content: bytes, kind: str = "application/json", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._head(status, len(content), kind, headers)
        self.wfile.write(content)

    def _head(
        self, status: int, length: int | None, kind: str = "application/json", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers:
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _wait_until_left(self) -> None:
        """Wait until the client closes the connection, or the server is closed."""
        self.close_connection = True
        while not self.fake.closed.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.01)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                self._note_left()
                return

    def _note_left(self) -> None:
        self.close_connection = True
        with self.fake.lock:
            self.fake.disconnects += 1
        self.fake.left.release()
