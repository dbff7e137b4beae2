// Pictures of one cell: distributions, wall time, memory, shapes, roofline.
function histogram(width, samples, label, color) {
  const values = samples.map((value) => value * 1e3);
  const [low, high] = extent(values, 0.02);
  const bins = Math.max(8, Math.min(36, Math.round(Math.sqrt(values.length) * 2.4)));
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins))]++;
  const drawn = plane(width, 170,
    { low: Math.max(0, low), high, label, format: (value) => number(value) },
    { low: 0, high: Math.max(...counts) * 1.12, label: "", format: (value) => `${Math.round((100 * value) / values.length)} %` },
    `Histogram: ${label}`);
  const size = drawn.inner.width / bins;
  counts.forEach((count, index) => {
    if (!count) return;
    const top = drawn.y(count);
    drawn.marks.append(svg("rect", { class: "bar", style: `--hue:${color}`, x: drawn.margin.left + index * size + 0.5, y: top, width: Math.max(1, size - 1), height: drawn.base - top, rx: 1 }));
  });
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[Math.floor((sorted.length - 1) / 2)];
  drawn.marks.append(svg("line", { class: "axis", x1: drawn.x(middle), x2: drawn.x(middle), y1: drawn.margin.top, y2: drawn.base }));
  drawn.marks.append(svg("text", { class: "strong", x: drawn.x(middle) + 5, y: drawn.margin.top + 10 }, `p50 ${number(middle)}`));
  return drawn.root;
}

function wallBar(width, wall) {
  const total = wall.reduce((sum, [, seconds]) => sum + seconds, 0);
  const root = svg("svg", { viewBox: `0 0 ${width} 34`, role: "img", "aria-label": "Where the wall time went; the list below says the same" });
  let at = 0;
  wall.forEach(([name, seconds], index) => {
    const size = (seconds / total) * width;
    root.append(svg("rect", { x: at, y: 2, width: Math.max(0.5, size - 1), height: 30, rx: 2, style: `fill:${name === "rest" ? "var(--rule)" : `var(--s${index % 8})`}` }));
    at += size;
  });
  return root;
}

function memoryLine(width, trace, color) {
  const drawn = plane(width, 170,
    { low: 0, high: Math.max(...trace.map(([seconds]) => seconds), 1), label: "s since the process started", format: (value) => number(value) },
    { low: 0, high: Math.max(...trace.map(([, bytes]) => bytes)) / MIB * 1.1, label: "MiB resident", format: (value) => number(value) },
    "Resident memory over time");
  const points = trace.map(([seconds, bytes]) => [drawn.x(seconds), drawn.y(bytes / MIB)]);
  const [first, last] = [points[0], points[points.length - 1]];
  drawn.marks.append(svg("path", { class: "area", style: `--hue:${color}`, d: `${path(points)}L${last[0]} ${drawn.base}L${first[0]} ${drawn.base}Z` }));
  drawn.marks.append(svg("path", { class: "line", style: `--hue:${color}`, d: path(points) }));
  return drawn.root;
}

/** One line a prompt length, over the batch. */
function shapeLines(width, grid) {
  const known = grid.filter((one) => one.tokens_per_s);
  const prompts = [...new Set(known.map((one) => one.prompt_tokens))];
  const batches = known.map((one) => one.batch);
  const drawn = plane(width, 190,
    { low: Math.min(...batches) * 0.9, high: Math.max(...batches) * 1.15, isLog: true, label: "batch", format: (value) => number(value) },
    { low: 0, high: Math.max(...known.map((one) => one.tokens_per_s)) * 1.15, label: "decode tokens/s", format: (value) => number(value) },
    "Throughput over batch and prompt length");
  prompts.forEach((prompt, index) => {
    const points = known.filter((one) => one.prompt_tokens === prompt).sort((a, b) => a.batch - b.batch);
    const places = points.map((one) => [drawn.x(one.batch), drawn.y(one.tokens_per_s)]);
    drawn.marks.append(svg("path", { class: "line", style: `--hue:var(--s${index % 8})`, d: path(places) }));
    for (const [cx, cy] of places) drawn.marks.append(svg("circle", { cx, cy, r: 3.5, style: `fill:var(--s${index % 8})` }));
    const [x, y] = places[places.length - 1];
    drawn.marks.append(svg("text", { x: x - 4, y: y - 8, "text-anchor": "end" }, `prompt ${prompt}`));
  });
  return drawn.root;
}

function rooflineChart(width, roofline, color) {
  const points = Object.entries(roofline.points);
  const ridge = roofline.flops_per_s / roofline.bytes_per_s;
  const intensities = [...points.map(([, [intensity]]) => intensity), ridge];
  const low = Math.min(...intensities) / 4;
  const high = Math.max(...intensities) * 4;
  const top = roofline.flops_per_s * 2.5;
  const floor = Math.min(...points.map(([, [, rate]]) => rate), roofline.bytes_per_s * low) / 3;
  const drawn = plane(width, 220,
    { low, high, isLog: true, label: "operations / byte", format: (value) => number(value) },
    { low: floor, high: top, isLog: true, label: "Gop/s", format: (value) => number(value / 1e9) },
    "Roofline: what this machine can do, and where the cell is");
  const roof = [[low, low * roofline.bytes_per_s], [ridge, roofline.flops_per_s], [high, roofline.flops_per_s]];
  drawn.marks.append(svg("path", { class: "line", style: "--hue:var(--soft)", d: path(roof.map(([x, y]) => [drawn.x(x), drawn.y(y)])) }));
  points.forEach(([name, [intensity, rate]]) => {
    const [cx, cy] = [drawn.x(intensity), drawn.y(rate)];
    const isRight = cx > width * 0.7;
    drawn.marks.append(svg("circle", { cx, cy, r: 6, style: `fill:${color}` }));
    drawn.marks.append(svg("text", { class: "strong", x: cx + (isRight ? -10 : 10), y: cy + 4, "text-anchor": isRight ? "end" : "start" }, name));
  });
  return drawn.root;
}
