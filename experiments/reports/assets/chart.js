// Charts: scales, ticks and axes, without a library, so that the page stays one small file.
function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function niceTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) ticks.push(value);
  return ticks.map((value) => Number(value.toPrecision(12)));
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) ticks.push(10 ** power);
  const inside = ticks.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  return inside.length > 1 ? inside : [low, high];
}

/** The range of the values with padding; a single value gets padding too. */
function extent(values, room = 0.08) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const spread = high - low || Math.abs(high) * 0.1 || 1;
  return [low - spread * room, high + spread * room];
}

/** Axes are {low, high, isLog, label, format}. Returns the svg, a group to draw into, and x and y: values to pixels. */
function plane(width, height, xAxis, yAxis, label) {
  const margin = { left: 52, right: 14, top: 20, bottom: 38 };
  const inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  const scale = (axis, length) => (value) => {
    const [low, high, at] = axis.isLog ? [axis.low, axis.high, value].map(Math.log10) : [axis.low, axis.high, value];
    return ((at - low) / (high - low)) * length;
  };
  const toX = scale(xAxis, inner.width);
  const toY = scale(yAxis, inner.height);
  const x = (value) => margin.left + toX(value);
  const y = (value) => margin.top + inner.height - toY(value);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of yAxis.isLog ? logTicks(yAxis.low, yAxis.high) : niceTicks(yAxis.low, yAxis.high, inner.height / 36)) {
    root.append(svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }));
    root.append(svg("text", { x: margin.left - 7, y: y(value) + 4, "text-anchor": "end" }, yAxis.format(value)));
  }
  for (const value of xAxis.isLog ? logTicks(xAxis.low, xAxis.high) : niceTicks(xAxis.low, xAxis.high, inner.width / 76)) {
    root.append(svg("text", { x: x(value), y: height - margin.bottom + 17, "text-anchor": "middle" }, xAxis.format(value)));
  }
  const base = height - margin.bottom;
  root.append(svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: base, y2: base }));
  root.append(svg("text", { x: width - margin.right, y: height - 4, "text-anchor": "end" }, xAxis.label));
  root.append(svg("text", { x: 2, y: 9, "text-anchor": "start" }, yAxis.label));
  const marks = svg("g");
  root.append(marks);
  return { root, marks, x, y, margin, inner, base };
}

const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
