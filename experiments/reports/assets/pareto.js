// The Pareto chart: speed × accuracy × memory. Dominance is computed in Python, from intervals.
function setUpPareto() {
  const section = byId("pareto");
  if (!section || !Object.keys(data.fronts).length) return;
  section.hidden = false;
  const figure = byId("front-chart");
  const again = () => {
    const width = figure.clientWidth - 2 * parseFloat(getComputedStyle(figure).paddingLeft);
    if (width > 0) figure.replaceChildren(drawFront(width));
    listFront();
  };
  new ResizeObserver(again).observe(figure);
  for (const id of ["x-axis", "y-axis"]) byId(id).addEventListener("input", again);
  document.addEventListener("limits", again);
}

function chosenFront() {
  const [x, y] = [byId("x-axis").value, byId("y-axis").value];
  const front = data.fronts[`${x}|${y}`] ?? { dominated: {}, missing: {} };
  const points = Object.entries(front.dominated).map(([id, by]) => {
    const row = rowOf.get(id);
    return { row, by, x: data.bounds[id][x], y: data.bounds[id][y], peak: peakOf(row) };
  });
  return { x, y, points, missing: front.missing };
}

function drawFront(width) {
  const { x, y, points } = chosenFront();
  const height = Math.max(300, Math.min(470, width * 0.58));
  if (!points.length) return svg("svg", { viewBox: `0 0 ${width} 40` }, svg("text", { x: 0, y: 20 }, "No cells were timed together with a reference."));
  const [lowX, highX] = extent(points.flatMap((point) => point.x), 0.12);
  const [lowY, highY] = extent(points.flatMap((point) => point.y), 0.2);
  const digits = Math.max(0, 1 - Math.floor(Math.log10(highY - lowY)));
  const drawn = plane(
    width, height,
    { low: Math.max(0, lowX), high: highX, label: `${data.axes[x]}, × the reference →`, format: (value) => `${Number(value.toFixed(2))}×` },
    { low: lowY, high: highY, label: `${data.axes[y]} ${columnOf.get(y)?.is_low_better ? "↓ lower is better" : "↑"}`, format: (value) => value.toFixed(Math.min(5, digits)) },
    `${data.axes[x]} against ${data.axes[y]}; the list beside it has the same figures`,
  );
  drawn.root.setAttribute("role", "group"); // its points are buttons
  drawCross(points, drawn, width);
  const largest = Math.max(...points.map((point) => point.peak ?? 0), 1);
  const most = points.length > 20 ? 8 : 15; // many points: smaller ones
  const radius = (point) => 4 + most * Math.sqrt((point.peak ?? 0) / largest);
  const taken = points.map((point) => {
    const [cx, cy, r] = [drawn.x(point.x[1]), drawn.y(point.y[1]), radius(point)];
    return { point, left: cx - r, right: cx + r, top: cy - r, bottom: cy + r };
  });
  for (const point of [...points].sort((a, b) => radius(b) - radius(a))) drawn.marks.append(drawPoint(point, drawn, radius(point)));
  const named = points.filter((point) => points.length <= 24 || !point.by.length);
  for (const point of named.sort((a, b) => a.by.length - b.by.length)) { // the front first, while labels fit
    const label = placeLabel(point, drawn, radius(point), taken, width);
    if (label) drawn.marks.append(label);
  }
  return drawn.root;
}

/** Lines through the reference: faster to the right, better above. */
function drawCross(points, drawn, width) {
  const references = points.filter((point) => point.row.is_reference);
  if (references.length !== 1) return;
  const [x, y] = [drawn.x(references[0].x[1]), drawn.y(references[0].y[1])];
  drawn.marks.append(
    svg("line", { class: "cross", x1: x, x2: x, y1: drawn.margin.top, y2: drawn.base }),
    svg("line", { class: "cross", x1: drawn.margin.left, x2: width - drawn.margin.right, y1: y, y2: y }),
  );
}

function drawPoint(point, drawn, radius) {
  const [cx, cy] = [drawn.x(point.x[1]), drawn.y(point.y[1])];
  const state = `${point.by.length ? "dominated" : "front"}${isLimited() && !qualifies(point.row) ? " out" : ""}`;
  const group = svg("g", { class: `point ${state}`, tabindex: 0, role: "button", style: `--hue:${hue(point.row)}`, "data-id": point.row.record_id, "aria-label": pointLines(point).join(". ") });
  group.append(svg("line", { class: "whisker", x1: drawn.x(point.x[0]), x2: drawn.x(point.x[2]), y1: cy, y2: cy }));
  group.append(svg("line", { class: "whisker", x1: cx, x2: cx, y1: drawn.y(point.y[0]), y2: drawn.y(point.y[2]) }));
  group.append(svg("circle", { cx, cy, r: radius }));
  for (const kind of ["mouseenter", "focus"]) group.addEventListener(kind, () => showTip(group, pointLines(point)));
  for (const kind of ["mouseleave", "blur"]) group.addEventListener(kind, hideTip);
  group.addEventListener("click", () => openCell(point.row.record_id));
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    openCell(point.row.record_id);
  });
  return group;
}

/** Places a label beside its point without overlap; null if it does not fit. */
function placeLabel(point, drawn, radius, taken, width) {
  const [cx, cy] = [drawn.x(point.x[1]), drawn.y(point.y[1])];
  const size = point.row.runtime.length * 7 + 4;
  const places = [
    [cx + radius + 5, cy - 6, "start"], [cx - radius - 5, cy - 6, "end"],
    [cx, cy - radius - 7, "middle"], [cx, cy + radius + 15, "middle"],
    [cx, cy - radius - 22, "middle"], [cx, cy + radius + 30, "middle"],
  ];
  for (const [x, y, anchor] of places) {
    const left = anchor === "start" ? x : anchor === "end" ? x - size : x - size / 2;
    const box = { left, right: left + size, top: y - 11, bottom: y + 3 };
    const isFree = taken.every((other) => {
      const room = other.point && other.point !== point ? 9 : 0; // so that the label is not read as that of another point
      return box.right < other.left - room || box.left > other.right + room || box.bottom < other.top || box.top > other.bottom;
    });
    if (isFree && box.left > drawn.margin.left && box.right < width) {
      taken.push(box);
      return svg("text", { class: "strong", x, y, "text-anchor": anchor, opacity: isLimited() && !qualifies(point.row) ? 0.25 : 1 }, point.row.runtime);
    }
  }
  return null;
}

function pointLines(point) {
  const interval = (ends, digits) => (ends[0] === ends[2] ? ends[1].toFixed(digits) : `${ends[1].toFixed(digits)} [${ends[0].toFixed(digits)}, ${ends[2].toFixed(digits)}]`);
  const names = point.by.map((id) => rowOf.get(id).runtime).join(" and ");
  return [
    point.row.runtime,
    `${data.axes[chosenFront().x]} ${interval(point.x, 2)} × the reference`,
    `answers ${interval(point.y, 4)}`,
    `peak ${mebibytes(point.peak)}`,
    names ? `Dominated by ${names}.` : "On the front.",
  ];
}

function listFront() {
  const { points, missing } = chosenFront();
  const kept = isLimited() ? points.filter((point) => qualifies(point.row)) : points;
  const front = kept.filter((point) => !point.by.length);
  const lesser = kept.filter((point) => point.by.length);
  const greyed = points.length - kept.length;
  const list = (members, text, most) => element("ul", {}, ...members.slice(0, most).map((point) =>
    element("li", { style: `--hue:${hue(point.row)}` }, element("i", { class: "dot" }), element("b", {}, point.row.runtime), element("br"), element("span", {}, text(point)))),
    members.length > most ? element("li", {}, element("span", {}, `and ${members.length - most} others`)) : null);
  const ties = (point) => {
    const tied = front.filter((other) => other !== point && other.y[0] <= point.y[2] && point.y[0] <= other.y[2]).map((other) => other.row.runtime);
    return `${point.x[1].toFixed(2)}×, ${mebibytes(point.peak)}${tied.length ? `; answers tied with ${tied.slice(0, 3).join(", ")}` : ""}`;
  };
  const others = Object.entries(missing).map(([id, reason]) => `${rowOf.get(id).runtime} (${reason.replaceAll("_", " ")})`);
  byId("front-text").replaceChildren(
    element("h3", {}, "On the front"),
    front.length ? list(front, ties, 7) : element("p", { class: "fine" }, "No cell qualifies: relax a limit."),
    greyed ? element("p", { class: "fine" }, `${greyed} outside the limits.`) : "",
  );
  byId("lesser-text").replaceChildren(
    ...(lesser.length ? [element("h3", {}, "Dominated"), list(lesser, (point) => `by ${point.by.map((id) => rowOf.get(id).runtime).join(" and ")}`, 24)] : []),
    others.length ? element("p", { class: "fine" }, `Not judged: ${[...new Set(others)].slice(0, 8).join(", ")}${others.length > 8 ? " and others" : ""}.`) : "",
  );
}
