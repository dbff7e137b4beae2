"""Write the bundled benchmark data: multiple-choice questions in the layout of Hendrycks et al., and held-out text.

`python -m experiments.bundled.make_data [--out DIR]`. Takes no seed: the committed data belongs to the committed world.
"""

import argparse
import csv
from pathlib import Path

from experiments.bundled.corpus import held_out_text
from experiments.bundled.questions import MultipleChoice, benchmark
from experiments.bundled.world import World, build_world

DATA_DIR = Path(__file__).parent / "data"
PERPLEXITY_FILE = "perplexity.txt"


def write_data(world: World, out: Path) -> None:
    """Write `multiple_choice/{dev,test}/<subject>_{dev,test}.csv` (no header) and `perplexity.txt`."""
    for subject, (dev, test) in benchmark(world).items():
        _write_questions(out / "multiple_choice" / "dev" / f"{subject}_dev.csv", dev)
        _write_questions(out / "multiple_choice" / "test" / f"{subject}_test.csv", test)
    (out / PERPLEXITY_FILE).write_text(held_out_text(world), encoding="utf-8", newline="\n")


def read_questions(path: Path) -> list[list[str]]:
    """Read one file of questions: rows of question, four choices, letter of the right one."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _write_questions(path: Path, questions: list[MultipleChoice]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(question.row() for question in questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA_DIR, help="folder to write into (default: %(default)s)")
    out: Path = parser.parse_args().out
    write_data(build_world(), out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
