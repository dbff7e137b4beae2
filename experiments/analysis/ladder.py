"""Whose fault is the loss: cells one change apart between the reference and a cell, each compared with the reference.

The changes are the engine, the dtype, the weights, the activations and the placement, in this order. Which weights
leave activations alone is declared by the preset (`weight_only`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import RuntimeConfig
from runtime_matrix.experiments.config.targets import full_name
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Record
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
        return build(RuntimeConfig, self.runtime, "runtime").title


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


def _key(runtime: JsonObject) -> JsonObject:
    parts = {part: _options(runtime[part]) for part in ("engine", "weights", "placement")}
    return {**parts, "dtype": runtime["dtype"]}


def _options(part: Mapping[str, object]) -> JsonObject:
    options = {key: value for key, value in part.items() if key not in _IGNORED and value not in (None, False)}
    return {**options, "target": full_name(str(part["target"]))} if "target" in part else options


def ladder(cell: Result, reference: Result, others: Sequence[tuple[Result, Row]]) -> Ladder | None:
    """Return the ladder of a cell from what was measured; None if it runs as the reference does.

    `others` are records with their rows, oldest first, among them the cell's own.
    """
    runtime, base = (side.record.config.get("runtime") for side in (cell, reference))
    if not isinstance(runtime, dict) or not isinstance(base, dict):
        return None
    planned = rungs(runtime, base)
    if not planned:
        return None
    near = [pair for pair in others if _is_near(pair[0].record, cell.record)]
    steps = list(_measured(planned, near, cell.record.run_id))
    fault, verdict = _judged(steps)
    return Ladder(steps=steps, fault=fault, verdict=verdict)


def _measured(planned: Sequence[Rung], near: Sequence[tuple[Result, Row]], run_id: str) -> Iterator[Step]:
    """Yield each rung with the figures of its record: the newest, if possible of the same run and with a KL."""
    last_kl: float | None = 0.0
    for rung in planned:
        fitting = [pair for pair in near if same_runtime(pair[0].record.config["runtime"], rung.runtime)]
        if not fitting:
            yield Step(change=rung.change, runtime=rung.title)
            last_kl = None
            continue
        result, row = max(fitting, key=lambda pair: _usefulness(pair, run_id))
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


def _is_near(record: Record, other: Record) -> bool:
    """Return whether two records are of the same model, profile and threads, and of equal benchmark versions."""
    facts = [(one.model.digest, one.hw.name, one.hw.threads) for one in (record, other)]
    versions = record.benchmark_versions
    shared = versions.keys() & other.benchmark_versions.keys()
    is_complete = isinstance(record.config.get("runtime"), dict)
    return is_complete and facts[0] == facts[1] and all(versions[n] == other.benchmark_versions[n] for n in shared)


def _usefulness(pair: tuple[Result, Row], run_id: str) -> tuple[bool, bool, bool, str]:
    result, row = pair
    is_ours = result.record.run_id == run_id
    return row.status == "ok", row.get("kl_mean") is not None, is_ours, result.record.started_at


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
