"""Serving under load: requests that arrive by a schedule, or a fixed number in flight, with the accuracy of the texts.

Times, rates and goodput are read from outside, request by request, whichever engine answers: a server, or a runtime of
this process behind continuous batching. TTFT and end-to-end times count from the planned arrival.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.evaluation.requests import GenerateRequest, Intake
from runtime_matrix.experiments.records.metric import (
    NOT_INTERLEAVED,
    Metric,
    figure,
    hidden,
    number,
    percentile_of,
    quotient,
)
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.bench import Bench, Figures, OpenEntry
from runtime_matrix.experiments.tasks.task import Scenario, Shape
from runtime_matrix.experiments.traffic.arrivals import Size, arrival_times, draw_sizes, read_trace
from runtime_matrix.experiments.traffic.counters import Counters
from runtime_matrix.experiments.traffic.driver import ClosedLoop, Driven, Load, OpenLoop, Served, drive
from runtime_matrix.experiments.traffic.figures import Objective, figures, samples
from runtime_matrix.experiments.traffic.requests import draw_requests
from runtime_matrix.experiments.traffic.search import Counts, highest_rate

_TIMES = {
    "ttft_s": ("TTFT", "Time from the planned arrival to the first token"),
    "tpot_s": ("TPOT", "Mean time per output token of a request, after its first one"),
    "itl_s": ("ITL", "Single gaps between tokens"),
    "e2e_s": ("E2E", "Time from the planned arrival to the last token"),
}
_SHOWN = {("ttft_s", 50), ("ttft_s", 95), ("tpot_s", 50), ("tpot_s", 95), ("e2e_s", 95)}
_PERCENTILES = (50, 90, 95, 99)
_TRACE, _SEARCH = "trace", "max-rate"
_STARVED = 0.1  # of the duration of a load: below, waiting for a core changes times little


@dataclass(frozen=True, kw_only=True)
class SloConfig:
    """The service level objective: limits on one request, and the share of requests that must keep them."""

    ttft_s: float | None = least(0)
    tpot_s: float | None = least(0)
    e2e_s: float | None = least(0)
    share: float = least(0, most=1)


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Options of `serving`. Each concurrency and rate is a grid point; the first one fills the matrix."""

    concurrency: tuple[int, ...] = least(1, may_be_empty=True)
    rates: tuple[float, ...] = least(0.001, may_be_empty=True)
    arrivals: str = among("poisson", "constant", "gamma")
    burstiness: float = least(0.01)
    trace: str | None
    requests: int = least(1, most=1_000_000)
    warmup: int = least(0)
    prompt_tokens: tuple[int, ...] = least(1)
    new_tokens: tuple[int, ...] = least(1)
    lengths: str = among("uniform", "lognormal")
    shared_prefix_tokens: int = least(0)
    slots: int = least(1)
    timeout_s: float = least(0.01)
    slo: SloConfig
    find: str | None = among("max_rate_under_slo")
    find_rates: tuple[float, ...] = least(0.001)
    find_load_s: float = least(0)
    checked_texts: int = least(0)

    @property
    def objective(self) -> Objective:
        """Return the service level objective of a request."""
        return Objective(self.slo.ttft_s, self.slo.tpot_s, self.slo.e2e_s)


def _times() -> Iterator[Metric]:
    for samples_name, (title, about) in _TIMES.items():
        for percent in _PERCENTILES:
            key, read = f"serving_{samples_name}_p{percent}", percentile_of(samples_name, percent)
            if (samples_name, percent) in _SHOWN:
                yield Metric(
                    key=key,
                    title=f"serving {title} p{percent}",
                    unit="ms",
                    group="serving",
                    rank=7,
                    display=number("{:.2f}", 1e3),
                    read=read,
                    about=f"{about}, under load. {NOT_INTERLEAVED}",
                )
            else:
                yield hidden(key, read)


def _starved(entry: Entry) -> float | None:
    share = quotient("client_waited_s", "duration_s")(entry)
    return 0.0 if share is not None and share < _STARVED else share


class Serving(Scenario[ServingConfig]):
    """Drives the engine in an open or a closed loop."""

    name = "serving"
    title = "serving"
    data = "random requests that arrive by a schedule or a trace, or a fixed number in flight"
    measures = "TTFT, TPOT, ITL and end-to-end percentiles under load, throughput, goodput under an objective, errors"
    position = 25
    times_rounds = False
    Config = ServingConfig
    metrics = (
        *_times(),
        Metric(
            key="serving_tokens_per_s",
            title="serving",
            unit="tok/s",
            group="serving",
            rank=6,
            display=number("{:,.0f}"),
            read=figure("tokens_per_s"),
            about=f"New tokens of complete requests per second of the load. {NOT_INTERLEAVED}",
        ),
        Metric(
            key="serving_requests_per_s",
            title="served",
            unit="req/s",
            group="serving",
            rank=8,
            display=number("{:.2f}"),
            read=figure("requests_per_s"),
            about=f"Complete requests per second of the load. {NOT_INTERLEAVED}",
        ),
        Metric(
            key="serving_goodput_requests_per_s",
            title="goodput",
            unit="req/s",
            group="serving",
            rank=6,
            display=number("{:.2f}"),
            read=figure("goodput_requests_per_s"),
            about="Requests per second that met the objective, benchmark.serving.slo.",
        ),
        Metric(
            key="serving_max_rate_requests_per_s",
            title="highest rate",
            unit="req/s",
            group="serving",
            rank=6,
            display=number("{:.2f}"),
            read=figure("max_rate_requests_per_s"),
            about="Highest rate at which benchmark.serving.slo.share of the requests met the objective.",
        ),
        Metric(
            key="serving_error_ratio",
            title="serving errors",
            group="serving",
            rank=6,
            display=number("{:.1f} %", 100),
            read=figure("error_ratio"),
            is_warning=True,
            about="Share of requests that failed, or were cancelled at their time limit.",
        ),
        Metric(
            key="serving_client_starved_ratio",
            title="client starved",
            group="serving",
            rank=7,
            display=number("{:.0f} %", 100),
            read=_starved,
            is_warning=True,
            about="Time that the client's threads waited for a core, as a share of the load's duration, from 10 % on: "
            "tokens seem to arrive late and together. Leave it a core with hw.threads.",
        ),
        Metric(
            key="serving_output_match_rate",
            title="same under load",
            group="serving",
            rank=7,
            display=number("{:.1f} %", 100),
            read=quotient("same_texts", "checked_texts"),
            about="Share of texts that are the same under load and alone. Batches round differently, so that near ties "
            "may flip.",
        ),
        hidden("serving_max_rate_requests_per_s_high", figure("max_rate_requests_per_s_high")),
        hidden("serving_lateness_s_p99", percentile_of("lateness_s", 99)),
        hidden("serving_objective_ratio", figure("objective_ratio")),
        hidden("serving_cached_prompt_ratio", figure("cached_prompt_ratio")),
        hidden("serving_short_requests", figure("short_requests")),
        hidden("serving_cancelled_requests", figure("cancelled_requests")),
        hidden("serving_offered_requests_per_s", figure("offered_requests_per_s")),
        hidden("serving_most_waiting", figure("most_waiting")),
        hidden("serving_client_cpu_s", figure("client_cpu_s")),
        hidden("serving_client_waited_s", figure("client_waited_s")),
        hidden("serving_server_cpu_s", figure("server_cpu_s")),
    )

    @override
    def check(self, config: ServingConfig) -> None:
        if config.find and not any(vars(config.objective).values()):
            raise UserError(
                "benchmark.serving.find needs an objective: set benchmark.serving.slo.ttft_s, tpot_s or e2e_s"
            )
        if config.find and min(config.find_rates) >= max(config.find_rates):
            raise UserError(f"benchmark.serving.find_rates={list(config.find_rates)} must be a lower and a higher rate")
        if not self.grid(config):
            raise UserError("benchmark.serving has no load: set concurrency, rates, trace or find")
        if config.trace is not None:
            read_trace(Path(config.trace).expanduser(), config.requests)
        if config.shared_prefix_tokens >= min(config.prompt_tokens):
            raise UserError(
                f"benchmark.serving.shared_prefix_tokens={config.shared_prefix_tokens} must be below the shortest of "
                f"prompt_tokens, {min(config.prompt_tokens)}: each prompt needs a token of its own"
            )

    @override
    def shapes(self, config: ServingConfig) -> Sequence[Shape]:
        if config.trace is None:
            return [Shape(1, max(config.prompt_tokens), max(config.new_tokens))]
        sizes = read_trace(Path(config.trace).expanduser(), config.requests)
        longest = max(sizes, key=lambda size: size.prompt_tokens + size.new_tokens)
        return [Shape(1, longest.prompt_tokens, longest.new_tokens)]

    @override
    def grid(self, config: ServingConfig) -> Sequence[str]:
        closed = [f"c{number}" for number in config.concurrency]
        open_loops = [_TRACE] if config.trace is not None and _is_timed(config) else [f"r{r:g}" for r in config.rates]
        return [*closed, *open_loops, *([_SEARCH] if config.find else [])]

    @override
    def timed_new_tokens(self, entry: Entry) -> int:
        return int(entry.figure("new_tokens") or 0)

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: ServingConfig, point: str) -> None:
        with bench.intake(config.slots) as intake:
            loads = _Loads(bench, intake, config)
            loads.warm_up()
            entry.parameters = {"load": point, **_parameters(config, point)}
            if point == _SEARCH:
                entry.figures = loads.search()
                return
            requests, driven, figures_of_machine = loads.measured(point)
            entry.samples = samples(driven)
            entry.figures = {**figures(driven, config.objective), **figures_of_machine}
            checked = _first_complete(driven, config.checked_texts)
            entry.figures |= loads.compared_alone(requests, driven, checked)
        entry.timed_tokens = {
            "prompts": [list(requests[index].ids) for index in checked],
            "new": [driven.requests[index].ids for index in checked],
            "banned": bench.banned_ids,
        }


class _Loads:
    """Drives the engine of a cell with the loads of the configuration."""

    def __init__(self, bench: Bench, intake: Intake, config: ServingConfig):
        self._bench, self._intake, self._config = bench, intake, config

    def warm_up(self) -> None:
        """Run requests that are not measured, so that connections are open and shapes are compiled."""
        count = self._config.warmup
        if count:
            drive(self._intake.start, self._requests("warm-up", count)[0], ClosedLoop(count), self._config.timeout_s)

    def measured(self, point: str) -> tuple[list[GenerateRequest], Driven, JsonObject]:
        """Return the requests of a load, what happened to them, and the counters of both sides."""
        requests, sizes = self._requests(point, self._config.requests)
        cpu = self._bench.cpu_apart()
        with Counters(self._intake.metrics) as counters:
            driven = self._driven(requests, self._load(point, sizes))
            spent = cpu()
        return (
            requests,
            driven,
            {
                "most_waiting": counters.highest_of(self._intake.waiting_metrics),
                "client_cpu_s": spent.client_s,
                "client_waited_s": spent.client_waited_s,
                "server_cpu_s": spent.engine_s,
                "server_counters": counters.changes(),
                "server_highest": counters.highest(),
                "counters_failure": counters.failure,
            },
        )

    def search(self) -> JsonObject:
        """Return the highest rate that keeps the objective, with its bracket and the rates that were tried."""
        config = self._config

        def attained(rate: float, number: int) -> Counts:
            count = max(config.requests, math.ceil(rate * config.find_load_s))
            name = f"r{rate:.6g} load {number}"
            requests, sizes = self._requests(name, count)
            driven = self._driven(requests, self._open_loop(name, rate, len(sizes)))
            return sum(config.objective.is_met(served) for served in driven.requests), len(requests)

        found = highest_rate(attained, min(config.find_rates), max(config.find_rates), config.slo.share)
        return {
            "max_rate_requests_per_s": found.low,
            "max_rate_requests_per_s_high": found.high,
            "tried_rates": [vars(trial) for trial in found.trials],
        }

    def compared_alone(self, requests: Sequence[GenerateRequest], driven: Driven, checked: Sequence[int]) -> Figures:
        """Return how many of these texts are the same when nothing else is in flight."""
        alone = drive(
            self._intake.start, [requests[index] for index in checked], ClosedLoop(1), self._config.timeout_s
        ).requests
        same = sum(_ids(driven.requests[index]) == _ids(again) for index, again in zip(checked, alone, strict=True))
        return {"checked_texts": len(checked), "same_texts": same}

    def _requests(self, name: str, count: int) -> tuple[list[GenerateRequest], list[Size]]:
        """Return seeded requests with distinct prompts, except for the shared prefix."""
        config, vocabulary = self._config, self._bench.traits.vocabulary
        key = f"serving {self._bench.seed} {name}"
        source = random.Random(key)
        if config.trace is not None and name != "warm-up":
            sizes = read_trace(Path(config.trace).expanduser(), count)
        else:
            sizes = draw_sizes(config.lengths, config.prompt_tokens, config.new_tokens, count, source)  # type: ignore[arg-type]
        return draw_requests(key, sizes, config.shared_prefix_tokens, vocabulary), sizes

    def _load(self, point: str, sizes: Sequence[Size]) -> Load:
        if point.startswith("c"):
            return ClosedLoop(int(point[1:]))
        if point == _TRACE:
            return OpenLoop([size.at_s or 0.0 for size in sizes])
        return self._open_loop(point, float(point[1:]), len(sizes))

    def _open_loop(self, name: str, rate: float, count: int) -> OpenLoop:
        config, source = self._config, random.Random(f"arrivals {self._bench.seed} {name}")
        return OpenLoop(arrival_times(config.arrivals, rate, count, config.burstiness, source))  # type: ignore[arg-type]

    def _driven(self, requests: Sequence[GenerateRequest], load: Load) -> Driven:
        def report(ended: int) -> None:
            self._bench.report(ended, len(requests))

        return drive(self._intake.start, requests, load, self._config.timeout_s, report)


def _parameters(config: ServingConfig, point: str) -> JsonObject:
    """Return what the load was, and the objective in seconds."""
    objective = {f"objective_{name}": limit for name, limit in vars(config.objective).items() if limit is not None}
    if point.startswith("c"):
        return {"loop": "closed", "concurrency": int(point[1:]), **objective}
    if point == _TRACE:
        return {"loop": "open", "arrivals": _TRACE, **objective}
    rate = {} if point == _SEARCH else {"rate_requests_per_s": float(point[1:])}
    return {"loop": "open", "arrivals": config.arrivals, **rate, **objective}


def _is_timed(config: ServingConfig) -> bool:
    assert config.trace is not None
    try:
        return read_trace(Path(config.trace).expanduser(), 1)[0].at_s is not None
    except UserError:
        return True  # `check` reports it


def _first_complete(driven: Driven, count: int) -> list[int]:
    complete = [index for index, served in enumerate(driven.requests) if served.is_complete]
    return complete[:count]


def _ids(served: Served) -> list[int] | None:
    return served.ids if served.is_complete else None


TASK = Serving()
