// Charts of one cell: distributions, wall time, memory, shapes, roofline.
const FEW = 30; // fewer samples are drawn as points: too few for bins

/** `middle`: the median of all samples in seconds, as `samples` may be thinned. */
function distribution(width, samples, middle, label) {
  const values = samples.map((value) => value * 1e3);
  const [low, high] = extent(values, 0.03);
  const axis = { low: Math.max(0, low), high, label: "ms", format: (value) => number(value) };
  const drawn = values.length < FEW ? strip(width, values, axis, label) : histogram(width, values, axis, label);
  const at = drawn.x((middle ?? values[Math.floor(values.length / 2)] / 1e3) * 1e3);
  drawn.marks.append(svg("line", { class: "axis", x1: at, x2: at, y1: drawn.margin.top, y2: drawn.base }));
  if (middle) drawn.marks.append(svg("text", { class: "strong", x: at + 5, y: drawn.margin.top + 8 }, `p50 ${number(middle * 1e3)}`));
  return drawn.root;
}

function histogram(width, values, axis, label) {
  const bins = Math.max(8, Math.min(36, Math.round(Math.sqrt(values.length) * 2.4)));
  const shares = new Array(bins).fill(0);
  for (const value of values) {
    shares[Math.min(bins - 1, Math.floor(((value - axis.low) / (axis.high - axis.low)) * bins))] += 1 / values.length;
  }
  const drawn = plane(width, 170, axis, { low: 0, high: Math.max(...shares) * 1.18, label: "", format: (share) => percent(share, 0) }, label);
  const size = drawn.inner.width / bins;
  shares.forEach((share, index) => {
    if (!share) return;
    const top = drawn.y(share);
    drawn.marks.append(svg("rect", { class: "bar", x: drawn.margin.left + index * size + 0.5, y: top, width: Math.max(1, size - 1), height: drawn.base - top, rx: 1 }));
  });
  return drawn;
}

function strip(width, values, axis, label) {
  const drawn = plane(width, 170, axis, { low: 0, high: 1, label: "", format: () => "" }, label);
  drawn.root.querySelectorAll(".grid").forEach((line) => line.remove());
  values.forEach((value, index) => {
    const height = 0.2 + 0.5 * ((index * 0.618) % 1); // spread, so that equal samples stay apart
    drawn.marks.append(svg("circle", { class: "bar", cx: drawn.x(value), cy: drawn.y(height), r: 4.5, "fill-opacity": 0.7 }));
  });
  return drawn;
}

const wallHue = (name, index) => (name === "rest" ? "var(--rule)" : name === "replay" ? "var(--soft)" : `var(--s${index % 8})`);

function wallBar(width, wall) {
  const total = wall.reduce((sum, [, seconds]) => sum + seconds, 0);
  const root = svg("svg", { viewBox: `0 0 ${width} 34`, role: "img", "aria-label": "Wall time by phase; the list below has the same figures" });
  let at = 0;
  wall.forEach(([name, seconds], index) => {
    const size = (seconds / total) * width;
    root.append(svg("rect", { x: at, y: 2, width: Math.max(0.5, size - 1), height: 30, rx: 2, style: `fill:${wallHue(name, index)}` }));
    at += size;
  });
  return root;
}

function memoryLine(width, trace) {
  const drawn = plane(width, 170,
    { low: 0, high: Math.max(...trace.map(([seconds]) => seconds), 1), label: "s since the process started", format: (value) => number(value) },
    { low: 0, high: Math.max(...trace.map(([, bytes]) => bytes)) / MIB * 1.1, label: "MiB resident", format: (value) => number(value) },
    "Resident memory over time");
  const points = trace.map(([seconds, bytes]) => [drawn.x(seconds), drawn.y(bytes / MIB)]);
  const [first, last] = [points[0], points[points.length - 1]];
  drawn.marks.append(svg("path", { class: "area", d: `${path(points)}L${last[0]} ${drawn.base}L${first[0]} ${drawn.base}Z` }));
  drawn.marks.append(svg("path", { class: "line", d: path(points) }));
  return drawn.root;
}

/** One line per prompt length, over the batch size. */
function shapeLines(width, grid) {
  const known = grid.filter((shape) => shape.tokens_per_s);
  const prompts = [...new Set(known.map((shape) => shape.prompt_tokens))];
  const batches = known.map((shape) => shape.batch);
  const drawn = plane(width, 190,
    { low: Math.min(...batches) * 0.9, high: Math.max(...batches) * 2.2, isLog: true, label: "batch", format: (value) => number(value) },
    { low: 0, high: Math.max(...known.map((shape) => shape.tokens_per_s)) * 1.15, label: "decode tokens/s", format: (value) => number(value) },
    "Throughput over batch and prompt length");
  prompts.forEach((prompt, index) => {
    const points = known.filter((shape) => shape.prompt_tokens === prompt).sort((a, b) => a.batch - b.batch);
    const places = points.map((shape) => [drawn.x(shape.batch), drawn.y(shape.tokens_per_s)]);
    drawn.marks.append(svg("path", { class: "line", style: `--hue:var(--s${index % 8})`, d: path(places) }));
    for (const [cx, cy] of places) drawn.marks.append(svg("circle", { cx, cy, r: 3.5, style: `fill:var(--s${index % 8})` }));
    const [x, y] = places[places.length - 1];
    drawn.marks.append(svg("text", { x: x + 8, y: y + 4 }, `prompt ${prompt}`));
  });
  return drawn.root;
}

function rooflineChart(width, roofline) {
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
    "Roofline: the hardware peak and the cell");
  const roof = [[low, low * roofline.bytes_per_s], [ridge, roofline.flops_per_s], [high, roofline.flops_per_s]];
  drawn.marks.append(svg("path", { class: "line", style: "--hue:var(--soft)", d: path(roof.map(([x, y]) => [drawn.x(x), drawn.y(y)])) }));
  points.forEach(([name, [intensity, rate]]) => {
    const [cx, cy] = [drawn.x(intensity), drawn.y(rate)];
    const isRight = cx > width * 0.7;
    drawn.marks.append(svg("circle", { class: "bar", cx, cy, r: 6 }));
    drawn.marks.append(svg("text", { class: "strong", x: cx + (isRight ? -10 : 10), y: cy + 4, "text-anchor": isRight ? "end" : "start" }, name));
  });
  return drawn.root;
}
