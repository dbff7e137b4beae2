"""A scripted server that stands in for a judge: the OpenAI API, fixed replies after a fixed delay, and no model.

`python -m experiments.validation.scripted_judge --delay 0.1` prints its address and serves until its input ends. It
finds the parts of our own templates in a prompt: an answer that equals the right one gets 5, another one 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject

_GUIDED = re.compile(r"Right answer:\n(.*)\n\nAnswer to grade:\n(.*)\n\nGrade the answer", re.DOTALL)
_PAIR = re.compile(r"Answer A:\n(.*)\n\nAnswer B:\n(.*)\n\nWhich answer", re.DOTALL)


@dataclass(frozen=True)
class Scripted:
    """What the server does with one call."""

    text: str = '{"score": 3}'
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # in place of a reply of the API
    has_usage: bool = True
    closes: bool = False  # the connection, without a reply
    waits_for: threading.Event | None = None  # before the reply


Script = Callable[[str, int], Scripted]  # (prompt, number of the call, from 0) to what happens


def compared(prompt: str, number: int) -> Scripted:
    """Judge by equality with the right answer; of a pair the longer answer wins."""
    guided, pair = _GUIDED.search(prompt), _PAIR.search(prompt)
    if guided is not None:
        return Scripted(json.dumps({"score": 5 if guided[1].strip() == guided[2].strip() else 1}))
    if pair is not None:
        difference = len(pair[1]) - len(pair[2])
        return Scripted(json.dumps({"winner": "tie" if difference == 0 else "A" if difference > 0 else "B"}))
    return Scripted()


class ScriptedJudge:
    """The server, in threads of this process. It counts its calls and those that it answered, by prompt."""

    def __init__(self, script: Script = compared, delay_s: float = 0.0):
        self.script, self.delay_s = script, delay_s
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()  # with a reply that a client has to pay for
        self.bodies: list[JsonObject] = []
        self.keys: list[str] = []  # of the header Authorization
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ScriptedJudge:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="scripted judge", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arrived(self, prompt: str, body: JsonObject, key: str) -> int:
        """Count a call, and return its number."""
        with self._lock:
            self.calls[prompt] += 1
            self.bodies.append(body)
            self.keys.append(key)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return self.calls.total() - 1

    def ended(self, prompt: str, is_answered: bool) -> None:
        """Count the end of a call."""
        with self._lock:
            self.in_flight -= 1
            self.answered[prompt] += is_answered


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""


def _handler(judge: ScriptedJudge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for a reply: the delay is then the scripted one

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
            number = judge.arrived(prompt, body, self.headers.get("Authorization", ""))
            is_answered = False
            try:
                scripted = judge.script(prompt, number)
                time.sleep(judge.delay_s)
                if scripted.waits_for is not None:
                    scripted.waits_for.wait()
                if scripted.closes:
                    self.close_connection = True
                    return
                self._reply(scripted, prompt)
                is_answered = scripted.status == 200
            finally:
                judge.ended(prompt, is_answered)

        def _reply(self, scripted: Scripted, prompt: str) -> None:
            choice = {"index": 0, "message": {"role": "assistant", "content": scripted.text}, "text": scripted.text}
            usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(scripted.text.split())}
            reply: JsonObject = {"choices": [choice], **({"usage": usage} if scripted.has_usage else {})}
            if scripted.status != 200:
                reply = {"error": {"message": scripted.text}}
            content = json.dumps(reply).encode() if scripted.body is None else scripted.body
            self.send_response(scripted.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **scripted.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        @override
        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    return Handler


def main() -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(description="a scripted judge: no model is asked")
    parser.add_argument("--delay", type=float, default=0.1, metavar="S", help="of each reply (%(default)s)")
    with ScriptedJudge(delay_s=parser.parse_args().delay) as judge:
        print(json.dumps({"url": judge.url}), flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
