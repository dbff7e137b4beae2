"""The documentation: links resolve, generated parts are what the code says, and the site builds."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_matrix.experiments.advise import main as advise
from tests.conftest import ROOT
from tests.documentation import PAGES, README, anchors, commands, links, read

RESULTS = ROOT / "results" / "amd-epyc-2-cores"
JUDGED = ("holds", "more", "less", "opposite", "unclear")  # verdicts on a figure
OUTSIDE = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=["']?(?:https?:)?//""")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), f"{link}: outside the repository"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_links_and_anchors_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# How it's laid out\n\n[a](b.md#c) `[no](link)` ![d](e.png)\n\n```text\n# none\n[f](g)\n```\n\n    $ h\n"
    )
    assert links(page) == ["b.md#c", "e.png"]
    assert anchors(page) == {"how-its-laid-out"}
    assert read(page).code == ["# none", "[f](g)", "    $ h"]


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130
    pages = {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} - {"docs/index.md"}
    assert pages <= set(links(README))


def test_the_index_and_the_navigation_have_every_page() -> None:
    pages = {page.name for page in PAGES if page.parent.name == "docs"}
    navigation = re.findall(r"^  - .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(navigation) == pages
    assert {link for link in links(ROOT / "docs" / "index.md") if "/" not in link} == pages - {"index.md"}


def test_the_readme_has_the_published_matrix() -> None:
    command = [sys.executable, "-m", "experiments.report", str(RESULTS), "--format", "md"]
    matrix = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert f"<!-- matrix -->\n{matrix}<!-- end of matrix -->\n" in README.read_text(encoding="utf-8"), "make schema"


def test_the_claims_are_the_published_ones() -> None:
    published = {cells[0].split("`")[1]: cells[1:5] for cells in _rows(RESULTS / "claims.md") if "`" in cells[0]}
    judged = {name for name, (*_, verdict) in published.items() if verdict in JUDGED}
    rows = {name: cells for name, *cells in _rows(ROOT / "docs" / "claims.md") if name in published}
    assert rows == {name: published[name] for name in judged}
    assert len(judged) > 10


def test_the_advice_that_is_shown_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = [line for line in read(ROOT / "docs" / "choose.md").code if line.startswith("run ")]
    assert advise([str(RESULTS), "--goal", "latency", "--min-accuracy", "0.9"]) == 0
    assert shown in capsys.readouterr().out.splitlines()


def _rows(page: Path) -> list[list[str]]:
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [cells for line in lines if not (cells := line.strip("| ").split(" | "))[0].startswith("-")]


@pytest.mark.parametrize("command", commands("make "))
def test_make_has_the_target(command: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert command.split()[1] in targets


def test_the_site_builds_and_asks_nothing_of_other_hosts(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs MkDocs: make docs, or pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "excluded from the built site" not in done.stderr
    built = {page.stem for page in tmp_path.glob("*.html")} - {"404"}
    assert built == {page.stem for page in PAGES if page.parent.name == "docs"}
    for page in tmp_path.glob("*.html"):
        assert not OUTSIDE.search(page.read_text(encoding="utf-8")), page.name
