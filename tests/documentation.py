"""The pages of the documentation as tests read them: their commands, links and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_INLINE_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"#+ (.+)")
_PROGRAM = re.compile(r"^(?:runtime-matrix|python -m runtime_matrix) (?=[a-z])")


@dataclass(frozen=True)
class Text:
    """A page without its code blocks, and the lines of these blocks."""

    prose: str
    code: list[str]


def read(page: Path) -> Text:
    """Split a page into prose and code: fenced blocks, and lines that are indented by four after an empty line."""
    prose, code = [], []
    is_fenced = is_indented = False
    previous = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        is_indented = line.startswith("    ") and (is_indented or not previous)
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or is_indented:
            code.append(line)
        else:
            prose.append(line)
        previous = line
    return Text("\n".join(prose), code)


def commands(program: str) -> list[str]:
    """Return the commands of all pages that begin with a program, each once, without their comments."""
    found = [line for page in PAGES for line in _commands(page) if f"{line} ".startswith(program)]
    assert found, f"no page has a command {program}"
    return sorted(set(found))


def _commands(page: Path) -> Iterator[str]:
    text = read(page)
    spans = [span.replace("\n", " ") for span in _INLINE_CODE.findall(text.prose)]
    for line in [*text.code, *spans]:
        yield _PROGRAM.sub("python -m experiments.", line.split(" #")[0].strip())


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return _LINK.findall(_INLINE_CODE.sub("", read(page).prose))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them of plain words."""
    headings = [match[1] for line in read(page).prose.splitlines() if (match := _HEADING.fullmatch(line))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
