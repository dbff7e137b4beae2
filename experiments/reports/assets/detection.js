// The dialog's panel of the benchmark `detection`.
function detectionPanel(cell) {
  const found = cell.detection;
  if (!found) return null;
  const line = (tag, texts) => element("tr", {}, ...texts.map((text, index) => element(tag, { class: index ? "number" : "" }, text)));
  const table = element("table", { class: "plain small" },
    element("thead", {}, line("th", ["measure", "held out", "in-sample"])),
    element("tbody", {}, ...found.rows.map((row) => line("td", row))));
  const heads = element("p", { class: "fine" }, `Heads chosen (layer, head): ${found.detectors.join("; ")}.`);
  const legend = element("ul", { class: "legend" }, ...[["supported", "var(--s0)"], ["unsupported", "var(--s1)"]].map(([name, hue]) =>
    element("li", { style: `--hue:${hue}` }, element("i", { class: "dot" }), name)));
  const hasScores = found.supported.length > 1 && found.unsupported.length > 1;
  return panel("Detection of unsupported responses", found.about, hasScores ? (width) => scoresByLabel(width, found) : null, table, heads, ...(hasScores ? [legend] : []));
}

/** The share of each label's responses up to a score: the further apart the lines, the better the detector. */
function scoresByLabel(width, found) {
  const [low, high] = extent([...found.supported, ...found.unsupported], 0.03);
  const drawn = plane(width, 170,
    { low, high, label: "score, held out", format: (value) => number(value) },
    { low: 0, high: 1, label: "share of responses up to a score", format: (value) => percent(value, 0) },
    "Scores of supported and of unsupported responses");
  [found.supported, found.unsupported].forEach((scores, index) => {
    const points = [[low, 0], ...scores.map((score, place) => [score, (place + 1) / scores.length]), [high, 1]];
    drawn.marks.append(svg("path", { class: "line", style: `--hue:var(--s${index})`, d: path(points.map(([score, share]) => [drawn.x(score), drawn.y(share)])) }));
  });
  return drawn.root;
}
