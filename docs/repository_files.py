"""A hook of MkDocs: files outside docs/ that the pages link to become part of the site, below repository/.

The pages link to them as `../results/…`, which works where the repository is browsed. MkDocs itself knows docs/ alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
_OUTSIDE = re.compile(r"\]\(\.\./")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each linked file, and what it links to in turn. FileNotFoundError for a file that is not there."""
    root = Path(config.config_file_path).resolve().parent
    pages = [Path(config.docs_dir, file.src_uri).resolve() for file in files.documentation_pages()]
    seen: set[Path] = set()
    while pages:
        page = pages.pop()
        for match in _LINK.finditer(page.read_text(encoding="utf-8")):
            path = (page.parent / match[1]).resolve()
            if path in seen or path.is_relative_to(config.docs_dir):
                continue
            seen.add(path)
            name = f"repository/{path.relative_to(root).as_posix()}"
            files.append(File.generated(config, name, content=path.read_bytes()))
            if path.suffix == ".md":
                pages.append(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point a page's links to where those files are in the site."""
    return markdown if page.file.src_uri.startswith("repository/") else _OUTSIDE.sub("](repository/", markdown)
