"""`python -m experiments.report`: the matrix of recorded cells, as a table, Markdown, CSV or JSON."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.records.matrix import rows
from experiments.records.store import read_records, write_atomic

Row = dict[str, Any]
Column = tuple[str, Callable[[dict[str, Any]], str], int]  # header, what stands in a row, importance
WIDTH_OF_A_LOG = 180  # characters, where the output is not a terminal
_PAGE = 4  # the least important columns that a page still shows


def _number(key: str, pattern: str, factor: float = 1.0) -> Callable[[Row], str]:
    return lambda row: "n/a" if row[key] is None else pattern.format(row[key] * factor)


def _score(key: str, error: str, digits: int) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        if row[key] is None:
            return "n/a"
        bound = "" if row[error] is None else f" ± {row[error]:.{digits}f}"
        return f"{row[key]:.{digits}f}{bound}"

    return show


def _ratio(key: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        if row[key] is None:
            return "1" if row["is_reference"] else "n/a"
        return f"{row[key]:.2f} [{row[key + '_low']:.2f}, {row[key + '_high']:.2f}]"

    return show


def _flips(row: Row) -> str:
    """No flip in n items leaves something open, so the bound is shown with it."""
    if row["mcq_flips_ratio"] is None:
        return "n/a"
    return f"{100 * row['mcq_flips_ratio']:.1f} % (≤ {100 * row['mcq_flips_ratio_high']:.1f})"


# Header, what stands in a row, and importance: where a terminal is narrow, the highest numbers leave first.
_COLUMNS: list[Column] = [
    ("runtime", lambda row: row["runtime"] + (" *" if row["is_reference"] else ""), 0),
    ("dtype", lambda row: row["dtype"], 8),
    ("model", lambda row: row["model"], 6),
    ("hw", lambda row: f"{row['hw']}, {row['threads']} threads", 9),
    ("status", lambda row: row["status"], 0),
    ("load s", _number("load_s", "{:.2f}"), 5),
    ("import s", _number("import_s", "{:.2f}"), 5),
    ("first call s", _number("first_call_s", "{:.2f}"), 7),
    ("TTFT p50 ms", _number("ttft_s_p50", "{:.2f}", 1e3), 3),
    ("TPOT p50 ms", _number("tpot_s_p50", "{:.2f}", 1e3), 1),
    ("TPOT p95 ms", _number("tpot_s_p95", "{:.2f}", 1e3), 6),
    ("prefill tok/s", _number("prefill_tokens_per_s", "{:,.0f}"), 6),
    ("decode tok/s", _number("decode_tokens_per_s", "{:,.0f}"), 5),
    ("MBU", _number("decode_mbu_ratio", "{:.0f} %", 100), 5),
    ("MFU", _number("prefill_mfu_ratio", "{:.0f} %", 100), 5),
    ("offline tok/s", _number("throughput_tokens_per_s", "{:,.0f}"), 6),
    ("decode speedup", _ratio("speedup_ratio"), 1),
    ("prefill speedup", _ratio("prefill_speedup_ratio"), 4),
    ("launches", _number("speedup_launches", "{:.0f}"), 9),
    ("peak MiB", _number("peak_host_bytes", "{:,.0f}", 2**-20), 3),
    ("weights MiB", _number("weight_bytes", "{:,.1f}", 2**-20), 4),
    ("perplexity", _score("perplexity", "perplexity_standard_error", 3), 2),
    ("% of reference", _number("perplexity_percent_of_reference", "{:.2f}"), 6),
    ("choice accuracy", _score("mcq_accuracy", "mcq_accuracy_standard_error", 3), 1),
    ("% of reference's", _number("mcq_accuracy_percent_of_reference", "{:.2f}"), 6),
    ("code pass@1", _score("code_pass_at_1", "code_pass_at_1_standard_error", 3), 2),
    ("QA F1", _score("qa_f1", "qa_f1_standard_error", 1), 2),
    ("QA exact", _score("qa_exact_match", "qa_exact_match_standard_error", 1), 6),
    ("ROUGE-L", _score("rouge_l", "rouge_l_standard_error", 1), 2),
    ("flips", _flips, 3),
    ("same texts", _number("same_texts_ratio", "{:.1f} %", 100), 4),
    ("KL nats", _number("kl_mean", "{:.1e}"), 3),
    ("same top token", _number("divergence_same_top_ratio", "{:.2f} %", 100), 6),
    ("same top", _number("agreement_same_top_ratio", "{:.1f} %", 100), 5),
    ("max |Δ logit|", _number("agreement_max_logit_difference", "{:.1e}"), 6),
    ("replayed same", _number("replay_same_top_ratio", "{:.1f} %", 100), 8),
]
_NOTES = (
    "* the reference; ± one standard error; [95 % interval over launches, CPU time of one thread on a CPU]; "
    "n/a unknown or not interleaved",
)


def render_table(found: Sequence[Row], console: Any) -> None:
    """Print the matrix as wide as the console, and say which columns had to leave."""
    columns, left_out = _fitting(found, console.width)
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for header, _, _ in columns:
        table.add_column(header, justify="left" if header in ("runtime", "dtype", "model", "hw", "status") else "right")
    for row in found:
        table.add_row(*[show(row) for _, show, _ in columns])
    console.print(table, highlight=False)
    for line in [*_failures(found), *_NOTES]:
        console.print(line, style="dim", markup=False, highlight=False)
    if left_out:
        console.print(f"too narrow for: {', '.join(left_out)}; --format md --wide has all", style="dim", markup=False)


def render(found: Sequence[Row], form: str, wide: bool = False) -> str:
    """Return the matrix as md (with all columns where `wide`), csv or json."""
    if form == "json":
        return json.dumps(list(found), indent=1) + "\n"
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        return text.getvalue()
    columns = [column for column in _known(found) if wide or column[2] <= _PAGE]
    lines = [
        "| " + " | ".join(header.replace("|", r"\|") for header, _, _ in columns) + " |",
        "|" + " --- |" * len(columns),
        *("| " + " | ".join(show(row) for _, show, _ in columns) + " |" for row in found),
    ]
    return "\n".join([*lines, "", *_failures(found), *[note.replace("*", r"\*") for note in _NOTES]]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Show the matrix; 2 for a user's mistake."""
    try:
        return _report(_parser().parse_args(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _report(asked: argparse.Namespace) -> int:
    folder = Path(asked.folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; measure first: python -m experiments.run")
    records, refused = read_records(folder)
    for path, reason in refused:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    found = rows(records, asked.all)
    if not found:
        raise UserError(f"{folder} holds no record; measure first: python -m experiments.run")
    if asked.format == "table" and asked.output is None:
        from rich.console import Console

        render_table(found, Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_LOG))
        return 0
    text = render(found, "md" if asked.format == "table" else asked.format, asked.wide)
    if asked.output is None:
        sys.stdout.write(text)
    else:
        try:
            write_atomic(Path(asked.output), text)
        except OSError as error:
            raise UserError(f"--output {asked.output} cannot be written: {error.strerror}") from error
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m experiments.report", description=__doc__)
    parser.add_argument("folder", nargs="?", default="results/runs", help="where the records are (%(default)s)")
    parser.add_argument("--format", choices=("table", "md", "csv", "json"), default="table")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to the terminal")
    parser.add_argument("--wide", action="store_true", help="all columns in md, not only the most important ones")
    parser.add_argument("--all", action="store_true", help="every record, not only the latest of each cell")
    return parser


def _known(found: Sequence[Row]) -> list[Column]:
    """Return the columns of which at least one row knows something."""
    return [column for column in _COLUMNS if any(column[1](row) != "n/a" for row in found)]


def _fitting(found: Sequence[Row], width: int) -> tuple[list[Column], list[str]]:
    columns = _known(found)
    left_out = []

    def taken() -> int:
        return sum(max(len(head), *(len(show(row)) for row in found)) + 2 for head, show, _ in columns)

    while taken() > width and columns[-1][2] + max(rank for _, _, rank in columns) > 0:
        least = max(columns, key=lambda column: column[2])
        if least[2] == 0:
            break
        columns.remove(least)
        left_out.append(least[0])
    return columns, left_out


def _failures(found: Sequence[Row]) -> list[str]:
    return [f"{row['runtime']}: {row['status']}: {row['reason']}" for row in found if row["status"] != "ok"]


if __name__ == "__main__":
    sys.exit(main())
