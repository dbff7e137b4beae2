// Trends: the same cell over time as small multiples of one metric.
const FIRST = 6; // cells that are drawn at first

function setUpTrends() {
  const section = byId("trends");
  if (!section) return;
  section.hidden = false;
  const select = byId("metric");
  const known = new Set(data.trends.flatMap((series) => Object.keys(series.metrics)));
  for (const option of [...select.options]) if (!known.has(option.value)) option.remove();
  const again = () => {
    const shown = data.trends.filter((series) => series.metrics[select.value]);
    shown.sort((a, b) => b.metrics[select.value].changes.length - a.metrics[select.value].changes.length); // most changes first
    const panels = shown.slice(0, isWhole ? undefined : FIRST).map((series) => trendPanel(series, select.value));
    byId("series").className = "multiples";
    byId("series").replaceChildren(...panels);
    more.hidden = isWhole || shown.length <= FIRST;
    more.textContent = `Show all ${shown.length} cells`;
  };
  let isWhole = false;
  const more = element("button", { type: "button", onclick: () => ((isWhole = true), again()) });
  byId("series").after(element("p", { class: "fine" }, more));
  select.addEventListener("input", again);
  again();
}

function trendPanel(series, key) {
  const { values, changes, steps, is_tested } = series.metrics[key];
  const dates = [...new Set(series.at.map((when) => when.slice(0, 10)))];
  const when = dates.length > 1 ? `${dates[0]} to ${dates[dates.length - 1]}` : dates[0];
  const summary = changes.length ? `New level at ${changes.map((index, place) => `${series.commit[index] || series.at[index].slice(0, 10)}, ${signed(steps[place] - 1)}`).join("; ")}`
    : !is_tested ? `${values.length} records; not interleaved, so changes may come from the machine`
    : values.length < data.fewest ? `${values.length} records: too few to tell a new level from noise` : `${values.length} records, no change of level`;
  return panel(series.cell, `${summary}; ${when}, ${series.processor ?? ""}`, (width) => trendLine(width, series, key));
}

function trendLine(width, series, key) {
  const { values, changes, ends } = series.metrics[key];
  const { title, unit, factor } = data.metrics[key];
  const known = values.map((value, index) => [index, value === null ? null : value * factor]).filter(([, value]) => value !== null);
  const intervals = (ends ?? []).map(([low, high], index) => [index, low, high]).filter(([, low, high]) => low !== null && high !== null)
    .map(([index, low, high]) => [index, low * factor, high * factor]);
  const [low, high] = extent([...known.map(([, value]) => value), ...intervals.flatMap(([, low, high]) => [low, high])], 0.15);
  const drawn = plane(width, 160,
    { low: -0.3, high: values.length - 0.7, label: "", format: (index) => (Number.isInteger(index) ? series.commit[index] || series.at[index]?.slice(5, 10) || "" : "") },
    { low: Math.max(0, low), high, label: unit, format: (value) => number(value) },
    `${title} of ${series.cell} over ${values.length} records`);
  drawn.marks.append(svg("path", { class: "line", d: path(known.map(([index, value]) => [drawn.x(index), drawn.y(value)])) }));
  for (const [index, from, to] of intervals) drawn.marks.append(svg("line", { class: "whisker", style: "--hue:var(--accent)", x1: drawn.x(index), x2: drawn.x(index), y1: drawn.y(from), y2: drawn.y(to) }));
  for (const [index, value] of known) {
    const dot = svg("circle", { cx: drawn.x(index), cy: drawn.y(value), r: 3, style: "fill:var(--accent)" });
    dot.append(svg("title", {}, `${series.at[index]} ${series.commit[index]}: ${number(value, 4)}`));
    drawn.marks.append(dot);
  }
  for (const index of changes) drawn.marks.append(svg("line", { class: "change", x1: drawn.x(index - 0.5), x2: drawn.x(index - 0.5), y1: drawn.margin.top, y2: drawn.base }));
  return drawn.root;
}
