// The table: sorting, filters, tooltips, arrow keys. The rows are static HTML.
const table = byId("cells");
const body = table.tBodies[0];
const headers = [...table.tHead.rows[1].cells];
const groups = [...table.tHead.rows[0].cells];

function setUpMatrix() {
  for (const header of headers) {
    header.replaceChildren(element("button", { type: "button", onclick: () => sortBy(header) }, ...header.childNodes));
  }
  for (const line of body.rows) dress(line);
  for (const id of ["filters", "limits"]) byId(id).hidden = false;
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  body.addEventListener("mouseover", (event) => pointAt(event.target.closest("td")));
  body.addEventListener("mouseleave", hideTip);
  body.addEventListener("focusin", (event) => pointAt(event.target.closest("td")));
  body.addEventListener("focusout", hideTip);
  body.addEventListener("keydown", walk);
  setUpLimits();
  filter();
}

const SPEEDS = data.columns.map((column) => column.key).filter((key) => key.endsWith("speedup_ratio"));
const widest = new Map(SPEEDS.map((key) => [key, Math.max(1, ...rows.map((row) => row[`${key}_high`] ?? 1))]));

/** Adds the row's colour, its button and a bar for the interval of each speedup. */
function dress(line) {
  const row = rowOf.get(line.dataset.id);
  line.style.setProperty("--hue", hue(row));
  const name = line.querySelector(".name");
  name.replaceChildren(
    element("span", { class: "dot", "aria-hidden": "true" }),
    element("button", { type: "button", onclick: () => openCell(row.record_id) }, row.runtime),
  );
  for (const key of SPEEDS) {
    const ends = data.bounds[row.record_id]?.[key];
    const cell = line.querySelector(`[data-key="${key}"]`);
    if (!ends || !cell) continue;
    const [low, middle, high] = ends.map((value) => (100 * value) / widest.get(key));
    cell.append(
      element("span", { class: "interval", "aria-hidden": "true" },
        element("i", { style: `width:${middle}%` }),
        element("b", { style: `left:${low}%;width:${Math.max(0.5, high - low)}%` })),
    );
  }
}

function sortBy(header) {
  const key = header.dataset.key;
  const isDown = header.getAttribute("aria-sort") === "ascending";
  for (const other of headers) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const value = (line) => {
    const row = rowOf.get(line.dataset.id);
    return row[key] ?? (key.endsWith("speedup_ratio") && row.is_reference ? 1 : null);
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null); // unknown last, either way
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return isDown ? -order : order;
  };
  body.append(...[...body.rows].sort(compare));
}

function filter() {
  const options = new FormData(byId("filters"));
  const words = String(options.get("search") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const valueOf = { runtime: (row) => row.runtime, hardware: (row) => `${row.hw}, ${row.processor}`, model: (row) => row.model, status: (row) => row.status };
  const required = columnsOf(String(options.get("benchmark") ?? ""));
  let shown = 0;
  for (const line of body.rows) {
    const row = rowOf.get(line.dataset.id);
    const isChosen = Object.entries(valueOf).every(([name, of]) => !options.get(name) || of(row) === options.get(name));
    const text = [row.runtime, row.model, row.hw, row.status, row.reason, row.dtype, row.run_id].join(" ").toLowerCase();
    const isRelevant = row.status !== "ok" || !required.length || required.some((key) => row[key] !== null && row[key] !== undefined);
    line.hidden = !(isChosen && isRelevant && words.every((word) => text.includes(word)));
    shown += !line.hidden;
  }
  for (const cell of body.querySelectorAll("td[tabindex]")) cell.removeAttribute("tabindex");
  body.querySelector('tr:not([hidden]) td[data-key="status"]')?.setAttribute("tabindex", 0); // the Tab stop of the table
  byId("shown").textContent = `${shown} of ${rows.length} cells`;
  chooseColumns(options.get("benchmark"));
}

const ALWAYS = new Set(["runtime", "status"]);

/** The columns of one benchmark ("of latency"), at least one of which a shown cell must have; empty for other views. */
const columnsOf = (view) => data.columns.filter((column) => view === `of ${column.benchmark}`).map((column) => column.key);

/** Views: "" the most important columns, a group or a benchmark ("of latency") all of its columns, "*" every column. */
function chooseColumns(view) {
  const isShown = (column) =>
    ALWAYS.has(column.key) ? true
    : column.group === "cell" && !view ? (column.rank <= 6 && isVaried(column.key))
    : view === "*" || (view ? column.group === view || view === `of ${column.benchmark}` : column.rank <= data.page_rank);
  const style = byId("columns") ?? document.head.appendChild(element("style", { id: "columns" }));
  const hidden = data.columns.filter((column) => !isShown(column));
  style.textContent = hidden.map((column) => `#cells [data-key="${column.key}"]`).join(",") + "{display:none}";
  for (const head of groups) {
    const members = data.columns.filter((column) => column.group === head.dataset.group && isShown(column)).length;
    head.hidden = members === 0;
    if (members) head.colSpan = members;
  }
}

const isVaried = (key) => new Set(rows.map((row) => row[key])).size > 1;

function pointAt(cell) {
  if (!cell) return hideTip();
  const row = rowOf.get(cell.parentNode.dataset.id);
  const column = columnOf.get(cell.dataset.key);
  if (column.group === "cell") return hideTip();
  showTip(cell, tipLines(row, column));
}

/** Whether a column is judged but has no mark. */
const isUnmarked = (key) => rows.length > 1 && columnOf.get(key).is_judged && !data.marks.some(([, marked]) => marked === key);

function tipLines(row, column) {
  const mark = markOf.get(row.record_id + " " + column.key);
  const lines = [`${row.runtime}: ${[column.title, column.unit].filter(Boolean).join(", ")}`, column.about];
  if (mark) lines.push(mark === "best" ? "The best: its interval overlaps with no other." : "Tied with the best: the intervals overlap.");
  else if (isUnmarked(column.key)) lines.push("All cells of this column are tied.");
  if (/^(ttft|tpot)_/.test(column.key) && row.tpot_samples) {
    const how = row.latency_source === "interleaved" ? `${row.speedup_launches} launches, ${launchFacts(row)}` : "one process, wall time, not interleaved";
    lines.push(`n = ${number(row.tpot_samples)} tokens, ${number(row.ttft_samples)} prompts; ${how}.`);
  }
  if (["speed", "throughput", "cost", "latency", "start"].includes(column.group)) lines.push(...intervalLines(row, column));
  if (column.group === "speed") {
    const isCpu = column.key.startsWith("cpu");
    const isKnown = row[column.key] !== null && row[column.key] !== undefined;
    if (row.is_reference) lines.push("The reference itself.");
    else if (!isKnown) lines.push(`Unknown: ${(isCpu && row.cpu_speedup_reason) || row.speedup_reason || "this was not measured"}.`);
    else lines.push(`${row.speedup_launches} launches, ${isCpu ? `CPU time of one thread, load ${number(row.speedup_load_1min ?? 0)} at most` : launchFacts(row)}.`);
    if (row.speed_note) lines.push(`${row.speed_note}.`);
    if (row.timed_recompiles) lines.push(`${row.timed_recompiles} graphs were compiled within timed rounds.`);
  }
  const bounds = data.bounds[row.record_id]?.[column.key];
  if (bounds) {
    const [low, , high] = bounds.map((value) => number(value, 4));
    if (column.group !== "speed") lines.push(low === high ? "The baseline of the comparison: no interval." : `95 % interval ${low} to ${high}${column.items_of && !row.is_reference ? ", on the reference’s items" : ""}.`);
  }
  const items = data.cells[row.record_id]?.items?.[column.items_of];
  if (items) lines.push(`n = ${items} items.`);
  return lines;
}

const launchFacts = (row) => `wall time at ${row.speedup_threads} ${row.speedup_threads === 1 ? "thread" : "threads"}, load ${number(row.speedup_load_1min ?? 0)} at most`;

/** The interval of a value over launches; those of one column of speedups hold together. */
function intervalLines(row, column) {
  const factor = column.unit === "ms" ? 1e3 : 1;
  const [low, high] = [row[`${column.key}_low`], row[`${column.key}_high`]].map((end) => (end === null || end === undefined ? null : number(end * factor, 4)));
  if (low === null || high === null) return [];
  const level = column.key.endsWith("speedup_ratio") || column.key.startsWith("break_even") ? "95 %, together with the others of the column" : "95 %";
  return [`Interval over launches ${low} to ${high} (${level}).`];
}

/** Arrow keys move between cells; the table has one Tab stop. */
function walk(event) {
  const cell = event.target.closest("td");
  const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  if (!cell || !(event.key in steps)) {
    if (cell && event.key === "Enter") {
      event.preventDefault(); // else the same key press would activate the dialog's close button
      openCell(cell.parentNode.dataset.id);
    }
    return;
  }
  event.preventDefault();
  const [down, right] = steps[event.key];
  const lines = [...body.rows].filter((line) => !line.hidden);
  const line = lines[lines.indexOf(cell.parentNode) + down];
  const shownCells = (tableRow) => [...tableRow.cells].filter((member) => member.tagName === "TD" && member.offsetParent);
  const index = shownCells(cell.parentNode).indexOf(cell);
  const next = line && shownCells(line)[index + right];
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function setUpLimits() {
  const kept = Object.values(data.kept).filter((value) => value !== null);
  const peaks = rows.map(peakOf).filter((value) => value !== null);
  const [floor, ceiling] = [byId("floor"), byId("ceiling")];
  floor.min = Math.max(0, Math.floor(100 * Math.min(1, ...kept)) - 1);
  floor.value = floor.min;
  floor.disabled = kept.length === 0;
  ceiling.disabled = peaks.length === 0;
  const smallest = peaks.length ? Math.min(...peaks) : 1;
  const largest = peaks.length ? Math.max(...peaks) : 1;
  const apply = () => {
    limits.floor = floor.value === floor.min ? 0 : Number(floor.value) / 100;
    const share = Number(ceiling.value) / 1000; // logarithmic: cells differ by factors
    limits.ceiling = share === 1 ? Infinity : smallest * (largest / smallest) ** share * 1.0005;
    byId("floor-text").textContent = limits.floor ? percent(limits.floor) : "any share";
    byId("ceiling-text").textContent = limits.ceiling === Infinity ? "any" : mebibytes(limits.ceiling);
    for (const line of body.rows) line.classList.toggle("out", isLimited() && !qualifies(rowOf.get(line.dataset.id)));
    byId("qualified").textContent = isLimited() ? `${rows.filter(qualifies).length} of ${rows.length} cells qualify` : "";
    document.dispatchEvent(new Event("limits"));
  };
  byId("limits").addEventListener("input", apply);
  apply();
}

const isLimited = () => limits.floor > 0 || limits.ceiling < Infinity;
