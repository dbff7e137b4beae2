"""Whose fault is the loss: cells one change apart between the reference and a cell, each compared with the reference.

The changes are the engine, the dtype, the weights, the activations and the placement, in this order. Which weights
leave activations alone is declared by the preset (`weight_only`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import RuntimeConfig
from runtime_matrix.experiments.config.targets import full_name
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.tasks.registry import scores

WEIGHT_ONLY = "weight_only"  # key of weights that quantize activations: what they are without
ROUNDING_NATS = 1e-6  # KL of float32 engines that compute the same: about 1e-8
_LEVELS = 2.0  # standard errors of a step's KL that count as a loss
_IGNORED = ("name", "named_bits", WEIGHT_ONLY)


@dataclass(frozen=True)
class Rung:
    """A step of a ladder: what changes, and the runtime after the change."""

    change: str
    runtime: JsonObject

    @property
    def title(self) -> str:
        """Return the name of the runtime in the matrix."""
        config: RuntimeConfig = build(RuntimeConfig, self.runtime, "runtime")
        return config.title


class Step(Struct, frozen=True, kw_only=True):
    """A rung as it was measured; None is unknown. All comparisons are with the reference."""

    change: str
    runtime: str
    record_id: str | None = None  # None: not measured
    status: str | None = None
    kl: float | None = None
    kl_error: float | None = None
    kl_added: float | None = None  # over the last measured rung
    flips_ratio: float | None = None
    score: str | None = None  # benchmark of the difference
    score_difference: tuple[float, float, float] | None = None
    speedup: tuple[float, float, float] | None = None


class Ladder(Struct, frozen=True, kw_only=True):
    """The steps from the reference to a cell, and the change that carries most of the loss."""

    steps: list[Step]
    fault: str | None  # the change; None: no loss is shown, or rungs are missing
    verdict: str  # in one sentence


def rungs(runtime: JsonObject, reference: JsonObject) -> list[Rung]:
    """Return the steps from the reference's runtime, a plain configuration, to a cell's; no step if they are equal."""
    steps: list[Rung] = []
    last = dict(reference)

    def step(change: str, **parts: object) -> None:
        nonlocal last
        following = {**last, **parts}
        if not same_runtime(following, last):
            last = following
            steps.append(Rung(change, following))

    step("engine", name=runtime["name"], engine=runtime["engine"])
    step("dtype", dtype=runtime["dtype"])
    weights = runtime["weights"]
    if WEIGHT_ONLY in weights:
        step("weights", weights={**weights, **weights[WEIGHT_ONLY]})
        step("activations", weights=weights)
    else:
        step("weights", weights=weights)
    step("placement", placement=runtime["placement"])
    return steps


def same_runtime(first: JsonObject, second: JsonObject) -> bool:
    """Return whether two plain runtimes compute the same; names and declarations do not matter."""
    return _key(first) == _key(second)


def _key(runtime: JsonObject) -> str:
    parts = {part: _options(runtime[part]) for part in ("engine", "weights", "placement")}
    return json.dumps({**parts, "dtype": runtime["dtype"]}, sort_keys=True)


def _options(part: Mapping[str, object]) -> JsonObject:
    options = {key: value for key, value in part.items() if key not in _IGNORED and value not in (None, False)}
    return {**options, "target": full_name(str(part["target"]))} if "target" in part else options


class Recorded:
    """Records with their rows, by what their cells run: steps are looked up here."""

    def __init__(self, pairs: Iterable[tuple[Result, Row]]):
        self._pairs: dict[tuple[str, ...], list[tuple[Result, Row]]] = {}
        for result, row in pairs:
            runtime = _runtime(result)
            if runtime is not None:
                self._pairs.setdefault(_place(result, runtime), []).append((result, row))

    def best(self, runtime: JsonObject, cell: Result) -> tuple[Result, Row] | None:
        """Return the record of a runtime under the cell's conditions: measured, with a KL, of its run, the newest."""
        fitting = self._pairs.get(_place(cell, runtime), [])
        return max(fitting, key=lambda pair: _usefulness(pair, cell.record.run_id), default=None)


def _runtime(result: Result) -> JsonObject | None:
    """Return the plain runtime of a record; None if it does not hold one, as early records do not."""
    runtime = result.record.config.get("runtime")
    is_whole = isinstance(runtime, dict) and {"dtype", "engine", "weights", "placement"} <= runtime.keys()
    return runtime if is_whole else None


def _place(result: Result, runtime: JsonObject) -> tuple[str, ...]:
    """Return a runtime with the model, profile and threads of a record, and the version of its divergence."""
    record = result.record
    version = record.benchmark_versions.get("divergence", 1)
    return _key(runtime), record.model.digest, record.hw.name, str(record.hw.threads), str(version)


def _usefulness(pair: tuple[Result, Row], run_id: str) -> tuple[bool, bool, bool, str]:
    result, row = pair
    is_ours = result.record.run_id == run_id
    return row.status == "ok", row.get("kl_mean") is not None, is_ours, result.record.started_at


def ladder(cell: Result, reference: Result, recorded: Recorded) -> Ladder | None:
    """Return the ladder of a cell from what was measured; None if it runs as the reference does."""
    runtime, base = _runtime(cell), _runtime(reference)
    planned = rungs(runtime, base) if runtime is not None and base is not None else []
    if not planned:
        return None
    steps = list(_measured(planned, cell, recorded))
    fault, verdict = _judged(steps)
    return Ladder(steps=steps, fault=fault, verdict=verdict)


def _measured(planned: Sequence[Rung], cell: Result, recorded: Recorded) -> Iterator[Step]:
    """Yield each rung with the figures of its record."""
    last_kl: float | None = 0.0
    for rung in planned:
        found = recorded.best(rung.runtime, cell)
        if found is None:
            yield Step(change=rung.change, runtime=rung.title)
            last_kl = None
            continue
        result, row = found
        kl = row.get("kl_mean")
        benchmark, difference = _worst_score(row)
        yield Step(
            change=rung.change,
            runtime=rung.title,
            record_id=result.record.record_id,
            status=row.status,
            kl=kl,
            kl_error=row.get("kl_standard_error"),
            kl_added=kl - last_kl if kl is not None and last_kl is not None else None,
            flips_ratio=_flips(row),
            score=benchmark,
            score_difference=difference,
            speedup=row.interval("speedup_ratio"),
        )
        last_kl = kl


def _flips(row: Row) -> float | None:
    """Return the largest share of flipped answers of a benchmark; None if none was compared."""
    shares = [row.get(f"{score.prefix}_flips_ratio") for score in scores().values() if score.is_discrete]
    return max((share for share in shares if share is not None), default=None)


def _worst_score(row: Row) -> tuple[str | None, tuple[float, float, float] | None]:
    """Return the benchmark whose score is furthest below the reference's, with the difference and its bounds."""
    known = {
        name: interval
        for name, score in scores().items()
        if (interval := row.interval(f"{score.metric}_difference")) is not None
    }
    if not known:
        return None, None
    name = min(known, key=lambda benchmark: known[benchmark][0] / scores()[benchmark].scale)
    return name, known[name]


def _judged(steps: Sequence[Step]) -> tuple[str | None, str]:
    missing = [step.runtime for step in steps if step.record_id is None]
    if missing:
        return None, f"not decided: {', '.join(missing)} not measured"
    without = [step.runtime for step in steps if step.kl is None]
    if without:
        return None, f"not decided: no divergence was measured for {', '.join(without)}"
    last = steps[-1]
    assert last.kl is not None
    if last.kl <= ROUNDING_NATS:
        return None, "no loss: its distributions are the reference's up to rounding"
    most = max(steps, key=lambda step: step.kl_added or 0.0)
    added = most.kl_added or 0.0
    lost = sum(max(0.0, step.kl_added or 0.0) for step in steps)
    before = steps[steps.index(most) - 1] if steps.index(most) else None
    error = ((most.kl_error or 0.0) ** 2 + ((before.kl_error if before else None) or 0.0) ** 2) ** 0.5
    if added <= _LEVELS * error:
        return None, f"not decided: the steps differ by less than {_LEVELS:.0f} standard errors of their KL"
    return (
        most.change,
        f"{most.change}: {100 * added / lost:.0f} % of the KL that the steps add ({added:.1e} of {lost:.1e} nats)",
    )
