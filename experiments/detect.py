"""`python -m experiments.detect`: tell supported from unsupported answers by stored scores of attentions.

FILE has the scores of a model's heads and layers for the chunks of its answers: `items.jsonl` of the benchmark, or a
log of ReDeEP. A detector is fitted on one half of the answers and judged on the other; what it reaches on the answers
that chose it stands beside that, marked in-sample. docs/detection.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.cli.gate_flags import whole_number
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.experiments.detector.cross_fitting import cross_fitted
from runtime_matrix.experiments.detector.fitting import fit
from runtime_matrix.experiments.detector.pairing import paired
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import PUBLISHED, Setting
from runtime_matrix.experiments.detector.stored import read_scores
from runtime_matrix.experiments.detector.techniques import gains, techniques
from runtime_matrix.experiments.ledger.claim import read_claims
from runtime_matrix.experiments.reports import detection, detection_json
from runtime_matrix.experiments.reports.text import clean

_SPLITS = 10
_OPTIONS = ("heads", "fixed_head", "top_heads", "top_layers", "alpha", "m", "search", "ensemble", "threshold")
_SEARCHED = ("top_heads", "top_layers", "alpha", "m")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the judgement of a detector. Return 0, or 2 for a user's mistake."""
    options = _parser().parse_args(argv)
    return speaking(lambda: _detect(options))


def _detect(options: argparse.Namespace) -> int:
    setting = _setting(options)
    scores = read_scores(Path(options.file), options.split)
    lines, result = list(detection.summary(options.file, scores)), detection_json.plain_scores(options.file, scores)
    if options.techniques:
        chosen = techniques(scores.heads, options.seed)
        published, measured = gains(scores, chosen, options.seed, options.splits)
        notes = fit(scores, PUBLISHED).notes
        lines += [
            *(f"note: {note}" for note in notes),
            "",
            *detection.techniques_table(published, chosen, measured, read_claims()),
            "",
        ]
        lines += [detection.held_out_line(options.splits), detection.IN_SAMPLE, detection.FACTOR]
        result["notes"] += notes
        result["techniques"] = detection_json.plain_techniques(published, chosen, measured)
    else:
        crossed = cross_fitted(scores, setting, options.seed, options.splits)
        lines += detection.judgement(crossed, setting)
        judgement = detection_json.plain_judgement(crossed, setting)
        result |= {**judgement, "notes": [*result["notes"], *judgement["notes"]]}
    if options.against is not None:
        compared = paired(scores, _others(options), setting, options.seed, options.splits)
        lines += ["", *detection.comparison(compared, options.against)]
        result["against"] = detection_json.plain_comparison(compared, options.against)
    print(json.dumps(result, indent=2) if options.json else clean("\n".join(lines)))
    return 0


def _others(options: argparse.Namespace) -> Scores:
    return read_scores(Path(options.against), options.split)


def _setting(options: argparse.Namespace) -> Setting:
    """Return the published setting with what the user chose; UserError for options that exclude each other."""
    given = {name: getattr(options, name) for name in _OPTIONS if getattr(options, name) is not None}

    def refuse(names: Sequence[str], because: str) -> None:
        for name in names:
            if name in given:
                raise UserError(f"{because}: leave out --{name.replace('_', '-')}")

    if options.techniques:
        refuse(_OPTIONS, "--techniques compares settings of its own")
        if options.against is not None:
            raise UserError("--techniques and --against do not go together: leave one of them out")
    if options.search == "grid":
        refuse(_SEARCHED, "--search grid chooses the numbers of heads and layers and their weights")
    named = tuple(given.pop("fixed_head", ()))
    if named:
        given.setdefault("heads", "fixed")
        refuse(("top_heads",), "--fixed-head names each head")
    if given.get("heads") == "fixed" and not named:
        raise UserError("--heads fixed needs heads: --fixed-head '(3, 0)', which may be repeated")
    if named and given["heads"] != "fixed":
        raise UserError(f"--fixed-head needs --heads fixed; found {given['heads']}")
    return Setting(**given, fixed_heads=named, seed=options.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("detect"), description=as_typed(__doc__ or ""), allow_abbrev=False)
    add, default = parser.add_argument, PUBLISHED
    add("file", metavar="FILE", help="stored scores: a JSON array or JSON lines, gzipped if the name ends in .gz")
    add("--split", metavar="NAME", help="only responses of this split, such as test (default: all)")
    add(
        "--heads",
        choices=("auc", "mutual_information", "random", "fixed"),
        help=f"how heads are chosen on the fitting half ({default.heads})",
    )
    add("--fixed-head", action="append", metavar="HEAD", help="a head by name, as '(3, 0)'; may be repeated")
    add("--top-heads", type=int, metavar="N", help=f"number of heads ({default.top_heads})")
    add("--top-layers", type=int, metavar="N", help=f"number of layers ({default.top_layers})")
    add("--alpha", type=float, metavar="X", help=f"weight of the external context ({default.alpha})")
    add("--m", type=float, metavar="X", help=f"weight of the parametric knowledge ({default.m:g})")
    add("--search", choices=("none", "grid"), help="choose these four on a grid, by AUC on the fitting half (none)")
    add("--ensemble", type=int, metavar="N", help="mean of N selections, each from a random half of the heads (1)")
    add("--threshold", choices=("0.5", "f1"), help="half of the range, or where F1 is best on the fitting half (0.5)")
    add("--techniques", action="store_true", help="what each of these gains over the published setting")
    add("--against", metavar="FILE2", help="other scores of the same responses: the paired difference of AUC")
    add(
        "--splits",
        type=partial(whole_number, least=1),
        default=_SPLITS,
        help="splits in halves, averaged (%(default)s)",
    )
    add(
        "--seed",
        type=partial(whole_number, least=0),
        default=0,
        help="of splits, intervals, random heads (%(default)s)",
    )
    add("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
