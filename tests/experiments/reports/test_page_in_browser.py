"""The page in headless Chromium: no error, no request; it sorts, filters, limits, opens a cell, and fits each width."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.columns import PAGE
from runtime_matrix.experiments.report import main
from runtime_matrix.experiments.reports.reading import PAGE_FILE
from tests.experiments.recorded import make_record, sweep, write

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright's client: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (360, 768, 1440)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sweep(tmp_path_factory.mktemp("runs"))
    for day in range(2, 12):
        later = {"run": f"run-{day}", "started_at": f"2026-11-{day:02}T10:00:00+00:00", "commit": f"{day:040}"}
        write(folder, [make_record("eager", accuracy=0.8 if day < 7 else 0.5, **later)])  # type: ignore[arg-type]
    (folder / "torn").mkdir()
    (folder / "torn" / "record.json").write_text("{")
    assert main([str(folder), "--format", "html"]) == 1
    return folder / PAGE_FILE


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Open]:
    """Return a function that opens the page; in the end no error was logged and nothing but the file was asked for."""
    errors: list[str] = []
    requests: list[str] = []
    contexts: list[Any] = []

    def open_page(width: int = 1440, address: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else 0)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri() + address)
        if not options.get("java_script_enabled", True):
            return page
        unfold(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert {url.split("#")[0] for url in requests} == {page_file.as_uri()}


def unfold(page: Any) -> None:
    page.locator("details.folded").evaluate("details => { details.open = true; }")


def names(page: Any) -> list[str]:
    found: list[str] = page.locator("#cells tbody tr:not([hidden]) .name").all_inner_texts()
    return found


def slide(page: Any, slider: str, value: float) -> None:
    page.evaluate(
        "([id, value]) => { const found = document.getElementById(id); found.value = value;"
        " found.dispatchEvent(new Event('input', {bubbles: true})); }",
        [slider, value],
    )


def test_sorting_works_both_ways_with_unknown_values_last(opened: Open) -> None:
    page = opened()
    button = page.locator("th[data-key=speedup_ratio] button")
    button.click()
    assert names(page)[:3] == ["eager", "compile", "gptq"]
    assert page.locator("th[data-key=speedup_ratio]").get_attribute("aria-sort") == "ascending"
    button.press("Enter")
    assert names(page)[0] == "onnxruntime"
    assert names(page)[-1] == "offload"


def test_filters_by_option_and_by_search(opened: Open) -> None:
    page = opened()
    page.select_option("select[name=runtime]", "gptq")
    assert names(page) == ["gptq"]
    page.select_option("select[name=runtime]", "")
    page.fill("input[type=search]", "kernel")
    assert names(page) == ["offload"]
    assert page.inner_text("#shown").startswith("1 of ")


def test_filters_by_benchmark(browser: Any, tmp_path: Path) -> None:
    """Columns are those of the benchmark, cells those that it was asked of, and failures, of which nobody knows."""
    silent = make_record("silent")
    kept = [entry for entry in silent.benchmarks if entry.benchmark != "multiple_choice"]
    silent = replace(silent, benchmarks=kept)
    write(tmp_path, [make_record("eager"), silent, make_record("broken", status="crash", reason="signal 11")])
    assert main([str(tmp_path), "--format", "html"]) == 0
    page = browser.new_page()
    page.goto((tmp_path / PAGE_FILE).as_uri())
    unfold(page)
    options = page.locator("select[name=benchmark] optgroup").first.locator("option").all_inner_texts()
    assert options == ["latency", "throughput", "memory", "multiple choice"]
    page.select_option("select[name=benchmark]", "memory")
    assert page.locator("th[data-key=weight_bytes]").is_visible()
    assert not page.locator("th[data-key=tpot_s_p50]").is_visible()
    assert names(page) == ["broken", "eager", "silent"]
    page.select_option("select[name=benchmark]", "multiple choice")
    assert page.locator("th[data-key=mcq_accuracy]").is_visible()
    assert not page.locator("th[data-key=weight_bytes]").is_visible()
    assert names(page) == ["broken", "eager"]
    page.close()


def test_the_data_say_which_columns_are_shown_at_first(browser: Any, page_file: Path, tmp_path: Path) -> None:
    text, shown = page_file.read_text(), {}
    page = browser.new_page()
    for rank in (PAGE, 1):
        changed = tmp_path / f"{rank}.html"
        changed.write_text(
            re.sub(r"<meta http-equiv[^>]*>", "", text).replace(f'"page_rank":{PAGE}', f'"page_rank":{rank}')
        )
        page.goto(changed.as_uri())
        shown[rank] = page.locator("th[data-rank='2']:not([data-group=cell])").first.is_visible()
    assert shown == {PAGE: True, 1: False}
    page.close()


def test_two_machines_with_one_profile_are_two_options(browser: Any, tmp_path: Path) -> None:
    other = make_record("eager", run="else")
    other = replace(other, environment=replace(other.environment, processor="Another"))
    write(tmp_path, [make_record("eager"), other])
    assert main([str(tmp_path), "--format", "html"]) == 0
    page = browser.new_page()
    page.goto((tmp_path / PAGE_FILE).as_uri())
    unfold(page)
    page.select_option("select[name=hardware]", "auto, Another")
    assert page.inner_text("#shown") == "1 of 2 cells"
    page.close()


def test_limits_grey_out_cells_that_do_not_qualify(opened: Open) -> None:
    page = opened()
    slide(page, "floor", 99)
    assert "out" in page.locator("#row-run-1-gptq").get_attribute("class")
    assert "out" not in (page.locator("#row-run-1-onnxruntime").get_attribute("class") or "")
    assert "out" in page.locator("#front-chart [data-id=run-1-gptq]").get_attribute("class")
    slide(page, "ceiling", 500)
    assert "out" in page.locator("#row-run-1-compile").get_attribute("class")
    assert "qualify" in page.inner_text("#qualified")


def test_the_front_is_drawn_and_listed(opened: Open) -> None:
    page = opened()
    page.locator("#front-chart .point").first.wait_for()
    assert page.locator("#front-chart .point.front").count() == 3
    assert "by onnxruntime" in page.inner_text("#lesser-text")
    assert "offload (out of memory)" in page.inner_text("#lesser-text")
    page.select_option("#x-axis", "prefill_speedup_ratio")
    assert page.locator("#front-chart .point.dominated").count() == 1


def test_a_cell_opens_with_its_flipped_items_and_closes(opened: Open) -> None:
    page = opened()
    page.locator("#row-run-1-gptq th button").click()
    dialog = page.locator("dialog")
    assert "python -m experiments.run runtime=gptq" in dialog.inner_text()
    assert dialog.locator("article").count() == 12
    assert "What is <b>20</b>?" in dialog.locator("article").first.inner_text()
    dialog.locator("svg").nth(3).wait_for()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.wait_for_url(lambda address: "#cell" not in address)  # its event comes a moment later


def test_a_cell_that_keeps_nothing_says_so(browser: Any, tmp_path: Path) -> None:
    write(tmp_path, [make_record("eager"), make_record("gptq", accuracy=0.0)], {"gptq": 2.0})
    assert main([str(tmp_path), "--format", "html"]) == 0
    page = browser.new_page()
    page.goto(f"{(tmp_path / PAGE_FILE).as_uri()}#cell=run-1-gptq")
    assert "scores kept 0.00 %" in " ".join(page.inner_text("dialog").split())
    page.close()


def test_without_a_roofline_the_share_of_the_peak_names_the_dtype(browser: Any, tmp_path: Path) -> None:
    record = make_record("eager")
    assert record.hardware_peak is not None
    write(tmp_path, [replace(record, hardware_peak=replace(record.hardware_peak, copy_bytes_per_s=None))])
    assert main([str(tmp_path), "--format", "html"]) == 0
    page = browser.new_page()
    page.goto(f"{(tmp_path / PAGE_FILE).as_uri()}#cell=run-1-eager")
    said = " ".join(page.inner_text("dialog").split())
    assert re.search(r"the copy bandwidth was not measured\. Prefill reaches \d+ % of its float32 rate\.", said), said
    page.close()


def test_a_cell_has_an_address_of_its_own(opened: Open) -> None:
    page = opened(address="#cell=run-1-offload")
    assert "killed by <the kernel>" in page.locator("dialog").inner_text()


def test_the_keyboard_reaches_every_value_and_its_tooltip(opened: Open) -> None:
    page = opened()
    page.locator("#cells tbody td[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.key") == "speedup_ratio"
    said = page.inner_text("#tip")
    assert "4 launches, wall time at 2 threads, load 0.5 at most" in said
    assert "95 %, together with the others of the column" in said
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()


def test_tooltips_name_the_clock(opened: Open) -> None:
    page = opened()
    page.select_option("select[name=benchmark]", "*")
    page.locator("#row-run-1-compile td[data-key=cpu_speedup_ratio]").hover()
    assert "4 launches, CPU time of one thread" in page.inner_text("#tip")
    page.locator("#row-run-1-compile td[data-key=tpot_s_p50]").hover()
    assert "192 tokens, 24 prompts; 4 launches, wall time at 2 threads" in page.inner_text("#tip")


def test_a_cell_whose_tokens_were_wrong_is_red(browser: Any, tmp_path: Path) -> None:
    assert main([str(sweep(tmp_path, has_garbage=True)), "--format", "html"]) == 0
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((tmp_path / PAGE_FILE).as_uri())
    unfold(page)
    style = "node => [getComputedStyle(node).backgroundColor, getComputedStyle(node).color]"
    badge = page.locator("#row-run-1-t_garbage td .status")
    assert badge.evaluate(style) == ["rgb(176, 0, 32)", "rgb(253, 231, 233)"]
    assert page.locator("#row-run-1-t_garbage td").first.evaluate(style)[0] == "rgb(253, 231, 233)"
    page.locator("#row-run-1-t_garbage th button").click()
    said = page.inner_text("dialog")
    assert "wrong output" in said
    assert "Time per output token" not in said
    page.close()


def test_break_even_is_shown_in_tokens_and_requests(browser: Any, tmp_path: Path) -> None:
    built = make_record("onnxruntime")
    assert built.load is not None
    built = replace(built, load=replace(built.load, artifacts={"built": 0, "found": 1, "build_s": 12.3}))
    write(tmp_path, [make_record("eager"), built, make_record("slow")], {"onnxruntime": 2.0, "slow": 0.5})
    assert main([str(tmp_path), "--format", "html"]) == 0
    page = browser.new_page()
    page.goto(f"{(tmp_path / PAGE_FILE).as_uri()}#cell=run-1-onnxruntime")
    unfold(page)
    said = " ".join(page.inner_text("dialog").split())
    assert re.search(r"Breaks even after 12,[\d]+ tokens \[12,\d+, 12,\d+\], after 1,2\d\d requests \[", said), said
    assert "Warm start: artifacts were cached." in said
    assert "cached build 12.3 s when it was built" in said
    page.evaluate("location.hash = '#cell=run-1-slow'")
    page.get_by_text("Never breaks even: it is slower than the reference.").wait_for()
    page.close()


def test_a_change_of_level_is_marked_in_the_trends(opened: Open) -> None:
    page = opened()
    page.select_option("#metric", "mcq_accuracy")
    page.locator("#series .change").first.wait_for(state="attached")  # drawn when its width is known
    assert page.locator("#series .change").count() == 1
    assert "New level at" in page.inner_text("#series")
    page.select_option("#metric", "tpot_s_p50")
    page.get_by_text("not interleaved, so changes may come from the machine").first.wait_for()
    assert page.locator("#series .change").count() == 0


def test_trends_are_in_the_unit_of_the_data(browser: Any, page_file: Path, tmp_path: Path) -> None:
    """The key of a metric, as of another package, says nothing about its unit."""
    text = page_file.read_text()
    changed = tmp_path / PAGE_FILE
    changed.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text).replace("mcq_accuracy", "toxicity"))
    page = browser.new_page()
    page.goto(changed.as_uri())
    page.select_option("#metric", "toxicity")
    assert "ms" not in page.locator("#series svg").first.text_content()
    page.select_option("#metric", "tpot_s_p50")
    assert "ms" in page.locator("#series svg").first.text_content()
    assert page.locator("#metric option:checked").inner_text() == "TPOT p50, ms"
    page.close()


def test_without_javascript_the_table_is_there(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("#cells tbody tr").count() == 5
    assert page.locator("#row-run-1-offload").is_visible()
    assert not page.locator("#pareto").is_visible()
    assert not page.locator("#filters").is_visible()
    assert "damaged" in page.inner_text("main")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_each_width_in_light_and_dark(opened: Open, width: int, scheme: str) -> None:
    page = opened(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(251, 250, 247)",
            "dark": "rgb(21, 22, 21)",
        }[scheme]
    )
    page.locator("#row-run-1-gptq th button").click()
    box = page.locator("dialog").evaluate("node => [node.scrollWidth, node.clientWidth, node.offsetWidth]")
    assert box[0] <= box[1]
    assert box[2] <= width


def test_text_has_enough_contrast(opened: Open) -> None:
    """WCAG's contrast of 4.5, for each text colour on each ground that it is used on."""
    contrast = """() => {
      const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const level = (name) => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = `var(${name})`;
        canvas.fillStyle = getComputedStyle(probe).color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const pairs = [["--ink", "--paper"], ["--ink", "--card"], ["--ink", "--best"], ["--soft", "--paper"],
        ["--soft", "--card"], ["--accent", "--paper"], ["--warn", "--warn-paper"],
        ["--alarm", "--alarm-paper"], ["--ink", "--alarm-paper"]];
      return pairs.map((pair) => pair.map(level).sort((a, b) => b - a)).map(([a, b]) => (a + 0.05) / (b + 0.05));
    }"""
    for scheme in ("light", "dark"):
        assert min(opened(color_scheme=scheme).evaluate(contrast)) > 4.5


def test_a_long_reason_does_not_widen_its_column(browser: Any, tmp_path: Path) -> None:
    write(tmp_path, [make_record("eager"), make_record("broken", status="error", reason="a long story " * 20)])
    assert main([str(tmp_path), "--format", "html"]) == 0
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((tmp_path / PAGE_FILE).as_uri())
    unfold(page)
    reason = page.locator(".reason > span").bounding_box()
    assert page.locator("th[data-key=status]").bounding_box()["width"] < 150
    assert reason["width"] > 600
    assert reason["y"] > page.locator("td .status.error").bounding_box()["y"]
    page.close()


def test_a_narrow_screen_shows_failures_and_the_first_values(opened: Open) -> None:
    page = opened(360)
    assert page.locator("#row-run-1-offload th .status").is_visible()
    assert not page.locator("#row-run-1-offload td[data-key=status]").is_visible()
    box = page.locator("#row-run-1-gptq td[data-key=speedup_ratio]").bounding_box()
    assert box["x"] < 250


def loaded(record: Any, requests_of: dict[str, int], first_s: float) -> Any:
    """Return the record with loads of `serving`: by name, so many requests."""
    entries = []
    for load, requests in requests_of.items():
        number = float(load[1:])
        is_open = load[0] == "r"
        entries.append(
            replace(
                record.benchmarks[0],
                benchmark="serving",
                case=load,
                parameters={"load": load, "loop": "open", "arrivals": "poisson"}
                if is_open
                else {"load": load, "loop": "closed", "concurrency": int(number)},
                samples={
                    name: [first_s * number * (1 + place / 1000) for place in range(requests)]
                    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "lateness_s")
                },
                figures={
                    "requests": requests,
                    "goodput_requests_per_s": number / 2,
                    "offered_requests_per_s": number,
                    "first_failure": "HTTP 503: <b>busy</b>",
                    "server_counters": {"tokens_total": 1234},
                    "server_highest": {"requests_waiting": 7},
                },
            )
        )
    return replace(record, benchmarks=[*record.benchmarks, *entries])


def test_loads_are_drawn_and_listed(browser: Any, tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            loaded(make_record("eager"), {"r1": 64, "r2": 64, "r8": 8, "c4": 64}, 0.01),
            loaded(make_record("onnxruntime"), {"r2": 64}, 0.02),
            make_record("gptq"),
        ],
    )
    assert main([str(tmp_path), "--format", "html"]) == 0
    for width in WIDTHS:
        page = browser.new_page(viewport={"width": width, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        page.goto((tmp_path / PAGE_FILE).as_uri())
        charts = page.locator("#serving-charts .panel")
        charts.nth(1).locator("svg").wait_for()
        assert page.locator("#serving-legend li").all_inner_texts() == ["eager", "onnxruntime"]
        assert [chart.locator("circle").count() for chart in charts.all()] == [4, 4]
        assert [chart.locator("path.line").count() for chart in charts.all()] == [1, 1]  # one point makes no line
        page.select_option("#serving-time", "ttft_s 2")
        charts.nth(1).locator("svg").wait_for()
        assert charts.nth(0).locator("circle").count() == 3  # 8 requests give no p95
        assert "1 load without this value" in charts.nth(0).inner_text()
        page.select_option("#serving-loop", "closed")
        charts.nth(1).locator("svg").wait_for()
        assert [chart.locator("circle").count() for chart in charts.all()] == [1, 1]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#serving-legend a").click()
        table = page.locator("table.loads")
        assert table.locator("thead th").all_inner_texts() == ["load", "r1", "r2", "r8", "c4"]
        line = table.locator("tr", has_text="TTFT p95").inner_text().split("\t")
        assert line[1:] == ["10.6 ms", "21.2 ms", "n/a", "42.4 ms"]
        assert "7" in table.locator("tr", has_text="requests_waiting, highest").inner_text()
        assert "<b>busy</b>" in table.inner_text()  # shown as text
        assert errors == []
        page.close()


def test_a_page_without_loads_has_no_section(opened: Open) -> None:
    assert opened().locator("#serving").count() == 0
