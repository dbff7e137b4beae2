"""The columns of the matrix: what each shows, in which unit, how important it is, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runtime_matrix.experiments.records.schema import FAILED_TIMING, Row

UNKNOWN = "n/a"
PAGE = 4  # the least important columns that a narrow view still shows


@dataclass(frozen=True)
class Column:
    """`rank`: where there is no room, the highest leave first. `better`: "high", "low" or "" where neither is."""

    key: str  # of the row's field or figure, by which it sorts
    title: str
    unit: str
    group: str
    rank: int
    show: Callable[[Row], str]
    better: str
    about: str

    @property
    def header(self) -> str:
        return f"{self.title} {self.unit}".strip()

    @property
    def benchmark(self) -> str:
        """Return what was asked for this value; "" where it is of the cell, or of several."""
        return next((name for start, name in _ASKED.items() if self.key.startswith(start)), "")

    @property
    def is_number(self) -> bool:
        return self.group != "cell" and self.key != "start_kind"


def known(found: Sequence[Row]) -> list[Column]:
    """Return the columns of which at least one row knows something.

    A column of warnings needs a row that is warned of. Where no row's F1 differs from its exact matches, these stand in
    its place and say what was counted.
    """
    shown = [column for column in COLUMNS if any(_is_known(column, row) for row in found)]
    shown = [column for column in shown if column.key not in _WARNINGS or any(row.get(column.key) for row in found)]
    pairs = [(row.get("qa_f1"), row.get("qa_exact_match")) for row in found]
    both = [(f1, exact) for f1, exact in pairs if f1 is not None and exact is not None]
    if not both or not all(math.isclose(f1, exact) for f1, exact in both):
        return shown
    replaced = next(column for column in COLUMNS if column.key == "qa_f1")
    return [
        replace(column, rank=replaced.rank, better=replaced.better, about=_ONLY_EXACT)
        if column.key == "qa_exact_match"
        else column
        for column in shown
        if column.key != "qa_f1"
    ]


def _is_known(column: Column, row: Row) -> bool:
    """Say whether a row knows a column's value; that the reference is as fast as itself is no knowledge."""
    return column.show(row) != UNKNOWN and not (column.group == "speed" and row.get(column.key) is None)


def failures(found: Sequence[Row]) -> list[str]:
    return [f"{row.runtime}: {row.status}: {row.reason}" for row in found if row.status != "ok"]


def is_alarm(row: Row) -> bool:
    """Say whether what was timed was not the work that was asked for."""
    return row.status in FAILED_TIMING


def speed_notes(found: Sequence[Row]) -> list[str]:
    """Return why the speeds of a row by two clocks disagree, one line for each such row."""
    return [f"NOTE {row.runtime}: {row.speed_note}" for row in found if row.speed_note]


def _number(key: str, pattern: str, factor: float = 1.0) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value = row.get(key)
        return UNKNOWN if value is None else pattern.format(value * factor)

    return show


def _score(key: str, error: str, digits: int) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value, bound = row.get(key), row.get(error)
        if value is None:
            return UNKNOWN
        return f"{value:.{digits}f}" + ("" if bound is None else f" ± {bound:.{digits}f}")

    return show


def _ratio(key: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        found = row.interval(key)
        if found is None:
            return "1" if row.is_reference and row.status == "ok" else UNKNOWN
        value, low, high = found
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"

    return show


def _interval(key: str, pattern: str) -> Callable[[Row], str]:
    """Show a value with its interval where it has one."""

    def show(row: Row) -> str:
        value, low, high = (row.get(f"{key}{end}") for end in ("", "_low", "_high"))
        if value is None:
            return UNKNOWN
        said = pattern.format(value)
        has_width = low is not None and high is not None and low < high
        return f"{said} [{pattern.format(low)}, {pattern.format(high)}]" if has_width else said

    return show


def _price(key: str, pattern: str) -> Callable[[Row], str]:
    """Show dollars with their interval, marked where the cell's rate was measured alone."""
    with_interval = _interval(key, pattern)

    def show(row: Row) -> str:
        said = with_interval(row)
        return f"{said} alone" if row.price_source == "alone" and said != UNKNOWN else said

    return show


def _time(key: str) -> Callable[[Row], str]:
    """Show milliseconds, marked where the cell was measured alone."""

    def show(row: Row) -> str:
        seconds = row.get(key)
        if seconds is None:
            return UNKNOWN
        return f"{seconds * 1e3:.2f}{' alone' if row.latency_source == 'alone' else ''}"

    return show


def _flips(row: Row) -> str:
    """No flip in n items leaves something open, so the bound is shown with it."""
    share, bound = row.get("mcq_flips_ratio"), row.get("mcq_flips_ratio_high")
    if share is None:
        return UNKNOWN
    return f"{100 * share:.1f} %" + ("" if bound is None else f" (≤ {100 * bound:.1f})")


def _hardware(row: Row) -> str:
    return f"{row.hw}, {row.threads} threads"


def _dtype(row: Row) -> str:
    return row.dtype + (" (emulated)" if row.dtype_note else "")


_ASKED = {  # by how keys of rows begin
    **dict.fromkeys(("ttft", "tpot", "prefill_tokens", "prefill_mfu", "decode_"), "latency"),
    **dict.fromkeys(("throughput_tokens", "usd", "energy"), "throughput"),
    **dict.fromkeys(("peak", "weight"), "memory"),
    "perplexity": "perplexity",
    "mcq": "multiple choice",
    "code": "code",
    "qa": "extractive QA",
    "rouge": "summarization",
    **dict.fromkeys(("kl", "divergence"), "divergence"),
}
_WARNINGS = ("agreement_tied_ratio", "calibration_overlap_ratio", "training_overlap_ratio")
_ONLY_EXACT = "Extractive question answering: exact matches, which are all that F1 counts here; ± one standard error."
_MIB = 2**-20
_ORDER = "Of cells that ran one after the other: an order of magnitude, no comparison."
_TIME = (
    "Median over the launches in which cells took turns, each launch its own median; wall time at the cell's own "
    "threads. Marked alone where the cell took no turns: then an order of magnitude, no comparison."
)
_TAIL = "The same steps, percentile of each launch. Of a cell alone it is unknown below {} samples."
_TURNS = (
    "against the reference, alive together and taking turns on the same fresh prompts: wall time at the cell's own "
    "threads. The intervals of the column hold together at 95 %."
)
_ONE_THREAD = (
    "CPU time of one thread, child processes counted, against the reference: the ratio with the least noise, and not "
    "the speed that a user sees. Unknown where the cell is not bound by its CPU time."
)
_PAYS = (
    "until a longer start is won back against the reference: loading, the first call, and the build of what was found "
    "in the cache. 0 where it starts no later; unknown unless the cell is shown to be faster."
)
COLUMNS = [
    Column("runtime", "runtime", "", "cell", 0, lambda row: row.runtime + (" *" if row.is_reference else ""), "",
           "Engine over weights in a placement; * the reference that others are compared with."),
    Column("dtype", "dtype", "", "cell", 8, _dtype, "", "What the engine computes in."),
    Column("variant", "options", "", "cell", 0, lambda row: row.variant or UNKNOWN, "",
           "What tells the row from others of the same runtime, model and hardware."),
    Column("model", "model", "", "cell", 6, lambda row: row.model, "", "The model that every cell of a run shares."),
    Column("hw", "hw", "", "cell", 9, _hardware, "", "The hardware profile and the threads that were given."),
    Column("status", "status", "", "cell", 2, lambda row: row.status, "", "What became of the cell."),
    Column("load_s", "load", "s", "start", 5, _number("load_s", "{:.2f}"), "",
           f"Loading, with all that it builds. {_ORDER}"),
    Column("first_call_s", "first call", "s", "start", 7, _number("first_call_s", "{:.2f}"), "",
           f"The first generation, where compiling happens. {_ORDER}"),
    Column("start_kind", "start", "", "start", 6, lambda row: row.start_kind or UNKNOWN, "",
           "cold: something was built or compiled; warm: all of that was found in the cache; plain: nothing to build."),
    Column("pays_after_tokens", "pays after", "tokens", "start", 7, _interval("pays_after_tokens", "{:,.0f}"), "",
           f"Tokens {_PAYS}"),
    Column("pays_after_requests", "pays after", "requests", "start", 7, _interval("pays_after_requests", "{:,.0f}"), "",
           f"Requests {_PAYS}"),
    Column("ttft_s_p50", "TTFT p50", "ms", "latency", 3, _time("ttft_s_p50"), "", f"Time to the first token. {_TIME}"),
    Column("tpot_s_p50", "TPOT p50", "ms", "latency", 2, _time("tpot_s_p50"), "", f"Time per output token. {_TIME}"),
    Column("tpot_s_p95", "TPOT p95", "ms", "latency", 6, _time("tpot_s_p95"), "",
           f"Time per output token, 95th percentile. {_TAIL.format(59)}"),
    Column("tpot_s_p99", "TPOT p99", "ms", "latency", 7, _time("tpot_s_p99"), "",
           f"Time per output token, 99th percentile. {_TAIL.format(299)}"),
    Column("prefill_tokens_per_s", "prefill", "tok/s", "latency", 6, _number("prefill_tokens_per_s", "{:,.0f}"), "",
           "Prompt tokens a second, from TTFT p50."),
    Column("decode_tokens_per_s", "decode", "tok/s", "latency", 5, _number("decode_tokens_per_s", "{:,.0f}"), "",
           "New tokens a second, from TPOT p50."),
    Column("decode_mbu_ratio", "MBU", "", "latency", 5, _number("decode_mbu_ratio", "{:.0f} %", 100), "",
           "Share of this machine's copy bandwidth that decoding reached."),
    Column("prefill_mfu_ratio", "MFU", "", "latency", 5, _number("prefill_mfu_ratio", "{:.0f} %", 100), "",
           "Share of this machine's matrix rate that prefill reached."),
    Column("throughput_tokens_per_s", "offline", "tok/s", "throughput", 6,
           _number("throughput_tokens_per_s", "{:,.0f}"), "", f"All requests there from the start. {_ORDER}"),
    Column("batched_tokens_per_s", "batched", "tok/s", "throughput", 5,
           _interval("batched_tokens_per_s", "{:,.0f}"), "",
           "New tokens a second of a batch that decodes in step, its prompts included, in launches in which cells took "
           "turns; 95 % interval over launches."),
    Column("speedup_ratio", "decode speedup", "", "speed", 1, _ratio("speedup_ratio"), "high",
           f"A step of decoding {_TURNS}"),
    Column("prefill_speedup_ratio", "prefill speedup", "", "speed", 3, _ratio("prefill_speedup_ratio"), "high",
           f"The first token {_TURNS}"),
    Column("request_speedup_ratio", "request speedup", "", "speed", 5, _ratio("request_speedup_ratio"), "high",
           f"A whole request, prefill and decoding, {_TURNS}"),
    Column("throughput_speedup_ratio", "batch speedup", "", "speed", 4, _ratio("throughput_speedup_ratio"), "high",
           f"A whole batch {_TURNS}"),
    Column("long_speedup_ratio", "long decode speedup", "", "speed", 6, _ratio("long_speedup_ratio"), "high",
           f"A step of longer texts {_TURNS}"),
    Column("cpu_speedup_ratio", "CPU speedup", "1 thread", "speed", 5, _ratio("cpu_speedup_ratio"), "",
           f"A step of decoding by {_ONE_THREAD}"),
    Column("cpu_prefill_speedup_ratio", "CPU prefill", "1 thread", "speed", 8, _ratio("cpu_prefill_speedup_ratio"), "",
           f"The first token by {_ONE_THREAD}"),
    Column("speedup_launches", "launches", "", "speed", 9, _number("speedup_launches", "{:.0f}"), "",
           "Launches of fresh processes, over which the intervals of speedups and times are."),
    Column("timed_recompiles", "recompiles", "timed", "speed", 9, _number("timed_recompiles", "{:.0f}"), "",
           "Graphs compiled within timed rounds; anything above 0 makes the times of those rounds too long."),
    Column("peak_host_bytes", "peak", "MiB", "memory", 3, _number("peak_host_bytes", "{:,.0f}", _MIB), "low",
           "Highest resident memory of the process and its living children during loading, prefill and decoding, less "
           "what it held when imports were done."),
    Column("peak_device_bytes", "device peak", "MiB", "memory", 3, _number("peak_device_bytes", "{:,.0f}", _MIB), "low",
           "Highest used memory of the device, all processes', less what was used before loading (sampled)."),
    Column("weight_bytes", "weights", "MiB", "memory", 4, _number("weight_bytes", "{:,.1f}", _MIB), "low",
           "Weights in memory."),
    Column("perplexity", "perplexity", "", "answers", 2, _score("perplexity", "perplexity_standard_error", 3), "low",
           "Of the text; ± one standard error. With disjoint windows the first tokens of each have little context, "
           "which raises it alike for all runtimes; benchmark.perplexity.stride scores each token behind more."),
    Column("perplexity_percent_of_reference", "% of reference", "", "answers", 6,
           _number("perplexity_percent_of_reference", "{:.2f}"), "", "Perplexity as a percentage of the reference's."),
    Column("mcq_accuracy", "choice accuracy", "", "answers", 1,
           _score("mcq_accuracy", "mcq_accuracy_standard_error", 3), "high",
           "Multiple choice; ± one standard error, clustered by subject."),
    Column("mcq_accuracy_unnormalised", "choice acc", "", "answers", 7,
           _number("mcq_accuracy_unnormalised", "{:.3f}"), "",
           "Multiple choice by log-probability, whatever a choice's length: lm-evaluation-harness's acc."),
    Column("mcq_accuracy_per_byte", "choice acc_norm", "", "answers", 7,
           _number("mcq_accuracy_per_byte", "{:.3f}"), "",
           "The same by log-probability per byte of the choice: lm-evaluation-harness's acc_norm."),
    Column("mcq_accuracy_percent_of_reference", "% of reference's", "", "answers", 6,
           _number("mcq_accuracy_percent_of_reference", "{:.2f}"), "", "Accuracy as a percentage of the reference's."),
    Column("code_pass_at_1", "code pass@1", "", "answers", 2,
           _score("code_pass_at_1", "code_pass_at_1_standard_error", 3), "high",
           "Programs that pass; ± one standard error."),
    Column("qa_f1", "QA F1", "", "answers", 2, _score("qa_f1", "qa_f1_standard_error", 1), "high",
           "Extractive question answering; ± one standard error."),
    Column("qa_exact_match", "QA exact", "", "answers", 6,
           _score("qa_exact_match", "qa_exact_match_standard_error", 1), "", "The same, exact matches only."),
    Column("rouge_l", "ROUGE-L", "", "answers", 2, _score("rouge_l", "rouge_l_standard_error", 1), "high",
           "Summaries; ± one standard error."),
    Column("calibration_overlap_ratio", "in calibration", "", "answers", 8,
           _number("calibration_overlap_ratio", "{:.1f} %", 100), "",
           "Test items that share 13 words or a sentence with the calibration text; of the benchmark with the most."),
    Column("training_overlap_ratio", "in training", "", "answers", 8,
           _number("training_overlap_ratio", "{:.1f} %", 100), "",
           "The same with the text that the model was trained on, where that is known."),
    Column("mcq_flips_ratio", "flips", "", "agreement", 3, _flips, "",
           "Answers that turned right to wrong or back, with the bound that so many items leave open."),
    Column("same_texts_ratio", "same texts", "", "agreement", 4, _number("same_texts_ratio", "{:.1f} %", 100), "",
           "Generated texts that are the reference's, of all that were compared."),
    Column("code_same_texts_ratio", "same code", "", "agreement", 7, _number("code_same_texts_ratio", "{:.1f} %", 100),
           "", "The same, of the programs alone."),
    Column("qa_same_texts_ratio", "same QA answers", "", "agreement", 7,
           _number("qa_same_texts_ratio", "{:.1f} %", 100), "", "The same, of the answers to questions alone."),
    Column("rouge_same_texts_ratio", "same summaries", "", "agreement", 7,
           _number("rouge_same_texts_ratio", "{:.1f} %", 100), "", "The same, of the summaries alone."),
    Column("kl_mean", "KL", "nats", "agreement", 3, _number("kl_mean", "{:.1e}"), "low",
           "Divergence from the reference's distribution, a token."),
    Column("divergence_same_top_ratio", "same top token", "", "agreement", 6,
           _number("divergence_same_top_ratio", "{:.2f} %", 100), "", "Positions with its likeliest token."),
    Column("agreement_same_top_ratio", "same top", "", "agreement", 5,
           _number("agreement_same_top_ratio", "{:.1f} %", 100), "", "The same, in the check before any timing."),
    Column("agreement_max_logit_difference", "max |Δ logit|", "", "agreement", 6,
           _number("agreement_max_logit_difference", "{:.1e}"), "", "Largest difference of a logit in that check."),
    Column("agreement_tied_ratio", "tied", "", "agreement", 8, _number("agreement_tied_ratio", "{:.1f} %", 100), "",
           "Positions of that check whose likeliest token is tied exactly with another: the first of them counts."),
    Column("replay_same_top_ratio", "replayed same", "", "agreement", 8,
           _number("replay_same_top_ratio", "{:.1f} %", 100), "", "Timed tokens that the reference too would choose."),
    Column("usd_per_million_tokens", "price", "$/M tok", "cost", 5,
           _price("usd_per_million_tokens", "{:.3f}"), "",
           "A million new tokens of the interleaved batches at the profile's price an hour; 95 % interval over "
           "launches. Marked alone where it is of the offline benchmark, one round of one cell: no comparison."),
    Column("usd_per_thousand_requests", "price", "$/1000 req", "cost", 7,
           _price("usd_per_thousand_requests", "{:.4f}"), "",
           "A thousand requests of the interleaved batches, or, marked alone, of the offline benchmark."),
    Column("energy_j_per_token", "energy", "J/tok", "cost", 5, _number("energy_j_per_token", "{:.3f}"), "",
           f"As the device's meter read it, all that ran beside included. {_ORDER}"),
]  # fmt: skip
