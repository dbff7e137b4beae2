"""Measure what HTTP adds to each token: the same runtime in this process and behind our server, in turns.

  python -m experiments.validation.serving_overhead hw.threads=1
  python -m experiments.validation.serving_overhead model=random model/architecture=qwen2_5_0_5b rounds=8 new_tokens=8

Own options: rounds (20), new_tokens (64), prompt_tokens (48). It also takes the overrides of `python -m
experiments.run`. Each round generates one text in each place, in alternating order. It shows the median of the paired
differences of the time per output token with its interval (bootstrap over rounds), the processor time per token, prompt
included, which another load hardly changes, and the load of the machine.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.overrides import own_words
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.evaluation.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.execution.worker import device, loading

_RESAMPLES = 2000
_WARMUP = 2  # rounds
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Place:
    """Where texts are generated. `cpu_s` returns the processor time that it has used so far."""

    name: str
    generate: Callable[[list[int], int], tuple[list[float], list[int]]]  # (prompt, tokens) → times of tokens, tokens
    cpu_s: Callable[[], float]


@dataclass
class _Seen:
    """What was measured in one place: seconds per token of each round, and the tokens."""

    per_token: list[float] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)
    cpu_s: float = 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Return 1 if the tokens differ, 2 for a user's mistake."""
    return run_command(argv, __doc__, _measure)


def _measure(words: Sequence[str]) -> int:
    own, given = own_words(words, {"rounds": "20", "new_tokens": "64", "prompt_tokens": "48"})
    rounds, new_tokens, prompt_tokens = (int(str(own[name])) for name in ("rounds", "new_tokens", "prompt_tokens"))
    cell = plan(compose(given.overrides), recorded_command("validation.serving_overhead", words))
    hardware = cell.hardware(device.resolve(cell.config.hw)[0])
    with loading.make_stepping(cell.config.runtime, "compared") as runtime, _server(given.overrides) as over_http:
        traits = loading.load(cell, runtime, cell.config.runtime, hardware, lambda name: nullcontext())

        def decode(prompt: list[int], tokens: int) -> tuple[list[float], list[int]]:
            times: list[float] = []
            (ids,) = decode_batch(runtime, traits, [prompt], tokens, lambda: times.append(time.perf_counter()))
            return times, ids

        in_process = _Place("in process", decode, time.process_time)
        prompts = random_prompts(rounds + _WARMUP, prompt_tokens, traits.vocabulary, 0)
        seen = [_Seen(), _Seen()]
        for at, prompt in enumerate(prompts):
            pairs = list(zip([in_process, over_http], seen, strict=True))
            for place, kept in pairs if at % 2 else pairs[::-1]:
                _round(place, prompt, new_tokens, kept, is_counted=at >= _WARMUP)
    _show(seen[0], seen[1], rounds * new_tokens)
    return 0 if seen[0].ids == seen[1].ids else 1


def _round(place: _Place, prompt: list[int], tokens: int, kept: _Seen, *, is_counted: bool) -> None:
    before = place.cpu_s()
    times, ids = place.generate(prompt, tokens)
    if is_counted:
        kept.per_token.append((times[-1] - times[0]) / (len(times) - 1))
        kept.ids.append(ids)
        kept.cpu_s += place.cpu_s() - before


def _show(own: _Seen, http: _Seen, tokens: int) -> None:
    pairs = list(zip(own.per_token, http.per_token, strict=True))
    for name, values in (
        ("in process", own.per_token),
        ("over HTTP", http.per_token),
        ("added", [b - a for a, b in pairs]),
    ):
        low, high = _interval(values)
        print(f"{name}: {statistics.median(values) * 1e6:.0f} µs per token [{low * 1e6:.0f}, {high * 1e6:.0f}]")
    ratios = [b / a for a, b in pairs]
    low, high = _interval(ratios)
    print(f"ratio: {statistics.median(ratios):.4f} [{low:.4f}, {high:.4f}]")
    used = [seen.cpu_s / tokens * 1e6 for seen in (own, http)]
    print(f"processor time per token: {used[0]:.0f} µs in process, {used[1]:.0f} µs in the server")
    same = sum(a == b for a, b in zip(own.ids, http.ids, strict=True))
    print(
        f"{len(pairs)} rounds, {same} with equal tokens; load {' '.join(f'{value:.1f}' for value in os.getloadavg())}"
    )


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES)]


@contextmanager
def _server(words: Sequence[str]) -> Iterator[_Place]:
    import httpx

    command = [sys.executable, "-m", "runtime_matrix", "serve", *words, "serve.port=0", "serve.max_batch=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise UserError("the server did not start: python -m experiments.serve with these words says why")
            with httpx.Client(base_url=json.loads(line)["url"], timeout=600, trust_env=False) as client:
                yield _Place(
                    "over HTTP",
                    lambda prompt, tokens: _over_http(client, prompt, tokens),
                    lambda: _processor_time(process.pid),
                )
        finally:
            process.terminate()


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _over_http(client: Any, prompt: list[int], tokens: int) -> tuple[list[float], list[int]]:
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    body |= {"stream": True, "return_token_ids": True}
    times: list[float] = []
    ids: list[int] = []
    with client.stream("POST", "/v1/completions", json=body) as reply:
        for part in reply.iter_raw():
            at_s = time.perf_counter()
            for line in part.split(b"\n"):
                if line.startswith(b"data: {"):
                    (choice,) = json.loads(line[6:])["choices"]
                    ids += choice["token_ids"]
                    times += [at_s] * len(choice["token_ids"])
    return times, ids


if __name__ == "__main__":
    sys.exit(main())
