"""A folder in Hendrycks' layout (MMLU): test/SUBJECT_test.csv, and dev/SUBJECT_dev.csv for few-shot examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats.choices.plain import read_csv
from runtime_matrix.experiments.tasks.formats.choices.question import Questions, ReadQuestions
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format


def _read(content: Content) -> ReadQuestions:
    tests = content.files("test/*_test.csv")
    if not tests:
        raise UserError(
            f"{content.path} holds no test/*_test.csv; give a folder in Hendrycks' layout, a CSV or a JSONL"
        )
    by_subject = {file.path.stem.removesuffix("_test"): read_csv(file) for file in tests}
    return ReadQuestions(by_subject, examples=partial(_examples, content, list(by_subject)))


def _examples(content: Content, subjects: Sequence[str], shots: int) -> Questions:
    examples: Questions = {}
    for subject in subjects:
        file = Content(content.path / "dev" / f"{subject}_dev.csv", content.wanted, content.fields)
        examples[subject] = read_csv(file)
        if len(examples[subject]) < shots:
            raise UserError(f"{file.path} has {len(examples[subject])} examples, but shots={shots}: lower shots")
    return examples


FORMAT = Format("hendrycks", "a folder in Hendrycks' layout", lambda content: content.is_folder, _read, is_general=True)
