"""Takes the README's pictures of a report page, with Chromium: `python docs/pictures.py PAGE`.

The page of a published matrix knows less of each cell: then the picture of a cell stays as it is.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
CELL = "tr[data-id*=awq] th button"  # one that has answers which flipped


def main(page_file: Path) -> None:
    """Write matrix, pareto, cell and narrow, as PNG, beside this file."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        def opened(width: int, height: int, scheme: str = "light") -> Page:
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()  # type: ignore[arg-type]
            page.goto(page_file.resolve().as_uri())
            page.locator("#front-chart .point").first.wait_for()
            return page

        matrix = opened(1440, 900)
        foot = matrix.locator("#matrix").evaluate("node => node.getBoundingClientRect().bottom")
        matrix.screenshot(
            path=HERE / "matrix.png", full_page=True, clip={"x": 0, "y": 0, "width": 1440, "height": foot}
        )
        wide = opened(1100, 900)
        box = wide.locator("#pareto").bounding_box()
        assert box is not None
        clip = {"x": 0, "y": box["y"], "width": 1100, "height": box["height"] + 16}
        wide.screenshot(path=HERE / "pareto.png", full_page=True, clip=clip)  # type: ignore[arg-type]
        cell = opened(1180, 1690, "dark")
        cell.locator(CELL).first.click()
        cell.wait_for_timeout(1000)  # the last panels are drawn when their width is known
        if cell.locator("dialog svg").count() > 3:
            cell.screenshot(path=HERE / "cell.png")
        opened(360, 780).screenshot(path=HERE / "narrow.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
