"""Write the bundled benchmark data, each in a public format: Hendrycks' questions, SQuAD's passages, HumanEval's
problems, JSON lines of articles, and a text for perplexity.

`python -m experiments.bundled.make_data [--out DIR]`. Takes no seed: the committed data belongs to the committed world.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from runtime_matrix.experiments.bundled.corpus import calibration_text, held_out_text
from runtime_matrix.experiments.bundled.texts import articles, functions, passages, programs, questions
from runtime_matrix.experiments.bundled.texts.world import World, build_world

DATA_DIR = Path(__file__).parent / "data"


class Answer(TypedDict):
    """An answer as SQuAD has it."""

    text: str
    answer_start: int  # characters


class Question(TypedDict):
    """A question and its answers as SQuAD has them."""

    id: str
    question: str
    answers: list[Answer]


class Paragraph(TypedDict):
    """A passage and its questions, as SQuAD has them."""

    context: str
    qas: list[Question]


def write_data(world: World, out: Path) -> None:
    """Write `multiple_choice/{dev,test}/*.csv` (no header), `extractive_qa.json`, `code.jsonl`, `summarization.jsonl`
    `perplexity.txt`, for quantization `calibration.txt`, and for retrieval `solved.jsonl`."""
    for subject, (dev, test) in questions.benchmark(world).items():
        write_questions(out / "multiple_choice" / "dev" / f"{subject}_dev.csv", dev)
        write_questions(out / "multiple_choice" / "test" / f"{subject}_test.csv", test)
    write_passages(out / "extractive_qa.json", "Deeds", passages.benchmark(world))
    write_lines(out / "code.jsonl", problem_rows("bundled", functions.benchmark(world.seed)))
    write_lines(out / "solved.jsonl", problem_rows("solved", programs.solved(world.seed)))
    write_lines(
        out / "summarization.jsonl",
        (
            {"id": f"article-{number}", "article": article.text, "summary": article.summary}
            for number, article in enumerate(articles.benchmark(world))
        ),
    )
    _write(out / "perplexity.txt", held_out_text(world))
    _write(out / "calibration.txt", calibration_text(world))


def problem_rows(name: str, problems: Iterable[functions.Problem]) -> Iterator[dict[str, str]]:
    """Yield problems as HumanEval has them."""
    for number, problem in enumerate(problems):
        yield {
            "task_id": f"{name}/{number}",
            "prompt": problem.prompt,
            "entry_point": problem.name,
            "canonical_solution": problem.solution,
            "test": problem.test,
        }


def write_passages(path: Path, title: str, drawn: Iterable[passages.Passage]) -> None:
    """Write passages and their questions as SQuAD has them."""
    paragraphs = [_paragraph(number, passage) for number, passage in enumerate(drawn)]
    _write(path, json.dumps({"version": "1.1", "data": [{"title": title, "paragraphs": paragraphs}]}, indent=1) + "\n")


def _paragraph(number: int, passage: passages.Passage) -> Paragraph:
    """Return SQuAD's form; an answer is written as it stands in the passage."""
    qas: list[Question] = []
    for index, question in enumerate(passage.questions):
        start = passage.text.lower().index(question.answer.lower())
        answer: Answer = {"text": passage.text[start : start + len(question.answer)], "answer_start": start}
        qas.append({"id": f"passage-{number}-{index}", "question": question.question, "answers": [answer]})
    return {"context": passage.text, "qas": qas}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_lines(path: Path, items: Iterable[dict[str, str]]) -> None:
    """Write JSON lines."""
    _write(path, "".join(json.dumps(item) + "\n" for item in items))


def write_questions(path: Path, rows: Sequence[questions.MultipleChoice]) -> None:
    """Write questions as Hendrycks et al. have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(question.row() for question in rows)


def main() -> None:
    """Write the bundled data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA_DIR, help="folder to write into (default: %(default)s)")
    out: Path = parser.parse_args().out
    write_data(build_world(), out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
