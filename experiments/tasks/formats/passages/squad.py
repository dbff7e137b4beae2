"""SQuAD v1.1 and 2.0 (Rajpurkar et al. 2016, 2018): articles, paragraphs and questions, as in XQuAD and ViQuAD.

Unanswerable questions of 2.0 have `is_impossible` and no answers; their `plausible_answers` are wrong and not read.
"""

from __future__ import annotations

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format
from runtime_matrix.experiments.tasks.formats.passages.question import Question, as_one_set, checked

TITLE = "SQuAD's layout"


def _read(content: Content) -> list[Question]:
    path = content.path
    value = (
        content.value if content.value is not None else data_files.parse_json(content.text, f"{path} is not in {TITLE}")
    )
    questions: list[Question] = []
    try:
        for article in value["data"]:
            for paragraph in article["paragraphs"]:
                for item in paragraph["qas"]:
                    answers = [answer["text"] for answer in item["answers"]]
                    context, impossible = paragraph["context"], item.get("is_impossible")
                    question = checked(str(item["id"]), context, item["question"], answers, impossible, str(path))
                    questions.append(question)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not in {TITLE}: {error!r} after {len(questions)} questions") from error
    return as_one_set(questions)


FORMAT = Format("squad", TITLE, lambda content: not content.is_folder, _read, is_general=True)
