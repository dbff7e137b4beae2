"""Prompt templates of judges: text files with placeholders in braces, in `templates/` or of the user's own.

{question} is always there. {answer} asks for a score of one answer, with {reference} guided by a right one;
{answer_a} and {answer_b} ask which of two is better, in both orders. Other braces, as those of JSON, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SINGLE, _PAIR = frozenset({"answer"}), frozenset({"answer_a", "answer_b"})
_KNOWN = ("question", "reference", "answer", "answer_a", "answer_b")


@dataclass(frozen=True)
class Template:
    """A checked template."""

    text: str
    placeholders: frozenset[str]

    @property
    def is_pairwise(self) -> bool:
        """Whether it compares two answers."""
        return self.placeholders >= _PAIR

    @property
    def needs_reference(self) -> bool:
        """Whether it shows a right answer."""
        return "reference" in self.placeholders

    def prompt(self, values: Mapping[str, str]) -> str:
        """Return the prompt. Braces within the values stay as they are."""
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)


def names() -> list[str]:
    """Return the names of the templates in `templates/`."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read_template(name: str) -> Template:
    """Return a template by its name or path. UserError for one that is missing, unreadable, or lacks a placeholder."""
    path = FOLDER / f"{name}.txt" if name in names() else Path(name).expanduser()
    if not path.exists():
        raise UserError(f"judge.template={name} is no file and no template{did_you_mean(name, names())}")
    text = data_files.read_text(path, "a text file with placeholders")
    return _checked(name, text.rstrip("\n"))


def _checked(name: str, text: str) -> Template:
    found = frozenset(_PLACEHOLDER.findall(text))
    for unknown in sorted(found - set(_KNOWN)):
        raise UserError(f"judge.template={name}: {{{unknown}}} is not a placeholder{did_you_mean(unknown, _KNOWN)}")
    if "question" not in found:
        raise UserError(f"judge.template={name} has no {{question}}: the judge would not see what was asked")
    if found & _SINGLE and found & _PAIR:
        raise UserError(f"judge.template={name} has {{answer}} beside {{answer_a}} or {{answer_b}}: leave out one kind")
    if not found & _SINGLE and not found >= _PAIR:
        raise UserError(
            f"judge.template={name} has no {{answer}}: the judge would not see what it judges; for two answers give "
            "{answer_a} and {answer_b}"
        )
    return Template(text, found)
