// Strategies: the gain of each over greedy with its interval, and pass@1 against the tokens that it takes.
function setUpStrategies() {
  const section = byId("strategies");
  if (!section) return;
  const known = rows.filter((row) => typeof row.code_gain_over_greedy === "number");
  section.hidden = !known.length;
  if (!known.length) return;
  byId("strategy-charts").replaceChildren(gainChart(known), tokensChart(known));
}

const strategyName = (row) => {
  const own = (row.variant ?? row.strategy).replaceAll("strategy=", "").replaceAll(/strategy\.\w+\./g, "");
  return new Set(rows.map(({ runtime }) => runtime)).size > 1 ? `${row.runtime} ${own}` : own;
};

function gainChart(known) {
  const sorted = [...known].sort((a, b) => b.code_gain_over_greedy - a.code_gain_over_greedy);
  const ends = sorted.flatMap((row) => [row.code_gain_over_greedy_low ?? row.code_gain_over_greedy, row.code_gain_over_greedy_high ?? row.code_gain_over_greedy, 0]);
  return panel("Gain over greedy", "pass@1 minus that of greedy texts, paired by problem; the line is the 95 % interval.", (width) => {
    const [low, high] = extent(ends, 0.05);
    const line = 30;
    const drawn = plane(width, 62 + line * sorted.length, { low, high, label: "pass@1 gained →", format: (value) => number(value) },
      { low: 0, high: sorted.length, label: "", format: () => "" }, `Gains of ${sorted.length} strategies over greedy`);
    drawn.root.querySelectorAll(".grid").forEach((grid) => grid.remove());
    drawn.marks.append(svg("line", { class: "axis", x1: drawn.x(0), x2: drawn.x(0), y1: drawn.margin.top, y2: drawn.base }));
    sorted.forEach((row, index) => {
      const y = drawn.margin.top + line * (index + 0.62);
      const [from, to] = [row.code_gain_over_greedy_low, row.code_gain_over_greedy_high];
      const group = svg("g", { style: `--hue:${hue(row)}` });
      if (typeof from === "number") group.append(svg("path", { class: "line", d: path([[drawn.x(from), y], [drawn.x(to), y]]) }));
      const dot = svg("circle", { cx: drawn.x(row.code_gain_over_greedy), cy: y, r: 4.5, style: "fill:var(--hue)" });
      dot.append(svg("title", {}, `${strategyName(row)}: ${number(row.code_gain_over_greedy)} [${number(from)}, ${number(to)}]`));
      group.append(dot);
      drawn.marks.append(group, svg("text", { x: 4, y: y - 8 }, strategyName(row)));
    });
    return drawn.root;
  });
}

/** Names beside their points, moved up or down until none covers another. */
function placedNames(points, width) {
  const [line, letter] = [12, 6.5]; // pixels
  const placed = [];
  for (const { name, x, y } of points) {
    const isRight = x > width * 0.7;
    const size = name.length * letter + 10;
    const left = isRight ? x - size : x;
    const covers = (at) => placed.some((other) => Math.abs(other.y - at) < line && left < other.left + other.size && other.left < left + size);
    const steps = [...Array(2 * points.length + 1).keys()].map((step) => (step % 2 ? -1 : 1) * Math.ceil(step / 2) * line);
    placed.push({ name, x, y: y + (steps.find((step) => !covers(y + step)) ?? 0), left, size, isRight });
  }
  return placed;
}

/** Filled: the strategy. Hollow: greedy, and any of the plain samples that the same tokens buy, which needs an oracle. */
function tokensChart(known) {
  const points = known.filter((row) => row.code_new_tokens_per_problem > 0).map((row) => ({ row, x: row.code_new_tokens_per_problem, y: row.code_pass_at_1 }));
  const bounds = known.filter((row) => typeof row.code_plain_pass_at_budget === "number" && row.code_new_tokens_per_problem > 0)
    .map((row) => ({ row, x: row.code_new_tokens_per_problem, y: row.code_plain_pass_at_budget }));
  const greedy = known.filter((row) => row.code_greedy_new_tokens_per_problem > 0)
    .map((row) => ({ row, x: row.code_greedy_new_tokens_per_problem, y: row.code_pass_at_1 - row.code_gain_over_greedy })).slice(0, 1);
  const all = [...points, ...bounds, ...greedy];
  const about = "Filled: a strategy. Ring: any of as many plain samples as the same tokens buy passes; choosing that one needs the hidden tests. Square: greedy.";
  if (!points.length) return panel("pass@1 and its price", "The solutions were given: no token was generated.");
  return panel("pass@1 and its price", about, (width) => {
    const [lowY, highY] = extent(all.map(({ y }) => y), 0.12);
    const xs = all.map(({ x }) => x);
    const drawn = plane(width, 280,
      { low: Math.min(...xs) / 1.3, high: Math.max(...xs) * 1.3, isLog: true, label: "new tokens per problem →", format: (value) => number(value) },
      { low: Math.max(0, lowY), high: Math.min(1, highY), label: "pass@1 ↑", format: (value) => number(value) }, `pass@1 of ${points.length} strategies against new tokens per problem`);
    for (const { row, x, y } of bounds) drawn.marks.append(svg("circle", { cx: drawn.x(x), cy: drawn.y(y), r: 4, style: `fill:none;stroke:${hue(row)};stroke-width:1.5` }));
    for (const { x, y } of greedy) drawn.marks.append(svg("rect", { class: "bar", x: drawn.x(x) - 4, y: drawn.y(y) - 4, width: 8, height: 8 }));
    for (const { row, x, y } of points) {
      const dot = svg("circle", { cx: drawn.x(x), cy: drawn.y(y), r: 4.5, style: `fill:${hue(row)}` });
      dot.append(svg("title", {}, `${strategyName(row)}: ${number(y)} with ${whole(x)} tokens`));
      drawn.marks.append(dot);
    }
    for (const { name, x, y, isRight } of placedNames(points.map(({ row, x, y }) => ({ name: strategyName(row), x: drawn.x(x), y: drawn.y(y) })), width)) {
      drawn.marks.append(svg("text", { x: x + (isRight ? -8 : 8), y: y + 4, "text-anchor": isRight ? "end" : "start" }, name));
    }
    return drawn.root;
  });
}

/** What only this strategy's record has. */
function strategyPanel(cell) {
  if (!cell.strategy.length) return null;
  const line = ([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "number" }, number(value, 4)));
  return panel("Strategy", "Shares, and means over problems.", null, element("table", { class: "plain small" }, element("tbody", {}, ...cell.strategy.map(line))));
}
