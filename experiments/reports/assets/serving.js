// Cells under load: times and goodput against the rate or the number in flight, and the table of one cell's loads.
const SERVING_TIMES = [["ttft_s", "TTFT"], ["tpot_s", "TPOT"], ["itl_s", "ITL"], ["e2e_s", "end to end"], ["lateness_s", "late start"]];
const SERVING_PERCENTILES = [50, 90, 95, 99];
const drawnTimes = SERVING_TIMES.slice(0, 4);

function setUpServing() {
  const section = byId("serving");
  if (!section) return;
  section.hidden = false;
  const [loop, time] = [byId("serving-loop"), byId("serving-time")];
  for (const [key, title] of drawnTimes) {
    for (const index of [0, 2]) time.append(element("option", { value: `${key} ${index}` }, `${title} p${SERVING_PERCENTILES[index]}`));
  }
  for (const option of [...loop.options]) if (!servingSeries(option.value).length) option.remove();
  if (!loop.options.length) {
    section.hidden = true; // a search alone has no points to draw
    return;
  }
  const again = () => {
    const series = servingSeries(loop.value);
    const [key, index] = time.value.split(" ");
    const title = time.selectedOptions[0].textContent;
    const latency = (point) => (point.times[key][index] === null ? null : point.times[key][index] * 1e3);
    const goodput = (point) => point.figures.goodput_requests_per_s ?? null;
    byId("serving-charts").replaceChildren(
      servingChart(series, loop.value, latency, title, "ms"),
      servingChart(series, loop.value, goodput, "Goodput: requests that met the objective", "requests/s"));
    byId("serving-legend").replaceChildren(...series.map(({ row }) =>
      element("li", { style: `--hue:${hue(row)}` }, element("i", { class: "dot" }), element("a", { href: `#cell=${row.record_id}` }, row.runtime))));
  };
  for (const select of [loop, time]) select.addEventListener("input", again);
  again();
}

function servingSeries(loop) {
  const x = (point) => (loop === "open" ? point.rate : point.concurrency);
  return rows.map((row) => {
    const points = (data.cells[row.record_id]?.serving ?? []).filter((point) => point.is_open === (loop === "open") && typeof x(point) === "number");
    return { row, points: points.map((point) => ({ point, x: x(point) })).sort((a, b) => a.x - b.x) };
  }).filter(({ points }) => points.length);
}

function servingChart(series, loop, value, title, unit) {
  const lines = series.map(({ row, points }) => ({ row, points: points.map(({ point, x }) => ({ point, x, y: value(point) })).filter(({ y }) => typeof y === "number") }));
  const all = lines.flatMap(({ points }) => points);
  const missing = series.reduce((count, { points }) => count + points.length, 0) - all.length;
  const about = missing ? `${missing} load${missing > 1 ? "s" : ""} without this value: too few answers` : "";
  if (!all.length) return panel(title, about);
  return panel(title, about, (width) => {
    const [lowX, highX] = extent(all.map(({ x }) => x));
    const [, highY] = extent(all.map(({ y }) => y), 0.12);
    const drawn = plane(width, 260,
      { low: Math.max(0, lowX), high: highX, label: loop === "open" ? "planned requests/s →" : "requests in flight →", format: (at) => number(at) },
      { low: 0, high: Math.max(highY, 1e-9), label: `${unit} ↑`, format: (at) => number(at) },
      `${title} of ${lines.length} cells under load`);
    for (const { row, points } of lines) {
      const group = svg("g", { style: `--hue:${hue(row)}` });
      if (points.length > 1) group.append(svg("path", { class: "line", d: path(points.map(({ x, y }) => [drawn.x(x), drawn.y(y)])) }));
      for (const { point, x, y } of points) {
        const dot = svg("circle", { cx: drawn.x(x), cy: drawn.y(y), r: 4, style: "fill:var(--hue)" });
        dot.append(svg("title", {}, `${row.runtime} at ${point.load}: ${number(y, 4)} ${unit}`));
        group.append(dot);
      }
      drawn.marks.append(group);
    }
    return drawn.root;
  });
}

/** The table of a cell's loads: figures in rows, loads in columns. */
function servingPanel(cell) {
  const points = cell.serving ?? [];
  if (!points.length) return null;
  const text = (value) => (value === null || value === undefined ? "n/a" : typeof value === "number" ? number(value, 4) : String(value));
  const line = (name, values) => element("tr", {}, element("th", { scope: "row" }, name), ...values.map((value) => element("td", { class: "number" }, value)));
  const known = (field) => [...new Set(points.flatMap((point) => Object.keys(point[field])))];
  const times = SERVING_TIMES.filter(([key]) => points.some((point) => point.counts[key])).flatMap(([key, title]) => [
    ...SERVING_PERCENTILES.map((percentile, index) => line(`${title} p${percentile}`, points.map((point) => milliseconds(point.times[key][index])))),
    line(`${title}, samples`, points.map((point) => whole(point.counts[key]))),
  ]);
  const body = [
    ...times,
    ...known("figures").map((name) => line(name.replaceAll("_", " "), points.map((point) => text(point.figures[name])))),
    ...known("counters").map((name) => line(`server: ${name}, change`, points.map((point) => text(point.counters[name])))),
    ...known("highest").map((name) => line(`server: ${name}, highest`, points.map((point) => text(point.highest[name])))),
  ];
  const table = element("table", { class: "plain small loads" },
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "load"), ...points.map((point) => element("th", { scope: "col", class: "number" }, point.load)))),
    element("tbody", {}, ...body));
  const node = panel("Under load", "Not interleaved. n/a: unknown, or too few samples for the percentile.", null, element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of loads" }, table));
  node.classList.add("wide");
  return node;
}
