// The dialog with the details of one cell.
const dialog = byId("cell");

function openCell(id) {
  const row = rowOf.get(id);
  if (!row) return;
  hideTip();
  const cell = data.cells[id];
  dialog.replaceChildren(element("div", { class: "sheet", style: `--hue:${hue(row)}` }, ...sheet(row, cell)));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  if (location.hash !== `#cell=${id}`) history.replaceState(null, "", `#cell=${id}`);
}

function setUpCells() {
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const follow = () => location.hash.startsWith("#cell=") && openCell(decodeURIComponent(location.hash.slice(6)));
  window.addEventListener("hashchange", follow);
  follow();
}

function sheet(row, cell) {
  const parts = [heading(row), command(row)];
  if (row.status !== "ok") parts.push(element("p", {}, element("span", { class: `status ${statusClass(row)}` }, row.status.replaceAll("_", " ")), ` ${row.reason ?? ""}`));
  parts.push(figures(row));
  if (row.speed_note) parts.push(element("p", { class: "fine" }, `${row.speed_note}.`));
  if (!cell) return [...parts, element("p", { class: "fine" }, "An older cell: its samples and items are in its record only.")];
  const panels = [causesPanel(row, cell), ladderPanel(cell), distributionPanel(cell, "ttft_s", "Time to first token"), distributionPanel(cell, "tpot_s", "Time per output token"), servingPanel(cell), strategyPanel(cell), detectionPanel(cell), wallPanel(cell), startPanel(row), memoryPanel(cell), rooflinePanel(row, cell), shapePanel(row, cell), auditPanel(cell), notesPanel(cell)];
  return [...parts, element("div", { class: "panels" }, ...panels.filter(Boolean)), items(row, cell), environment(cell)];
}

function heading(row) {
  const parts = [row.dtype, `${row.weights} weights`, `on ${row.placement}`, row.model, `${row.hw}, ${row.threads} threads`, ...(row.strategy === "none" ? [] : [`strategy ${row.strategy}`])];
  return element("header", {},
    element("div", {},
      element("h2", { id: "cell-title" }, element("span", { class: "dot", "aria-hidden": "true" }), row.runtime, row.is_reference ? element("span", { class: "badge" }, "reference") : null),
      element("p", { class: "fine" }, parts.join(" · ")),
      element("p", { class: "fine" }, row.record_id)),
    element("button", { type: "button", onclick: () => dialog.close() }, "Close"));
}

function command(row) {
  const commandText = element("pre", {}, row.command ?? "");
  const copy = async (event) => {
    try {
      await navigator.clipboard.writeText(row.command);
      event.target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(commandText); // a page opened from a file cannot write to the clipboard
    }
  };
  return element("div", { class: "command" }, commandText, element("button", { type: "button", onclick: copy }, "Copy the command"));
}

const ratioText = (row, key) => `${row[key].toFixed(2)}× [${row[`${key}_low`].toFixed(2)}, ${row[`${key}_high`].toFixed(2)}]`;

function figures(row) {
  const ratio = row.speedup_ratio ? ratioText(row, "speedup_ratio") : row.is_reference ? "1×" : null;
  const alone = row.latency_source === "alone" ? ", alone" : "";
  const kept = data.kept[row.record_id] ?? null;
  const entries = [
    ["decode speedup, wall time", ratio], ["CPU speedup, one thread", row.cpu_speedup_ratio ? ratioText(row, "cpu_speedup_ratio") : null],
    ["batch speedup", row.throughput_speedup_ratio ? ratioText(row, "throughput_speedup_ratio") : null],
    [`TTFT p50${alone}`, row.ttft_s_p50 ? milliseconds(row.ttft_s_p50) : null], [`TPOT p50${alone}`, row.tpot_s_p50 ? milliseconds(row.tpot_s_p50) : null],
    row.batched_tokens_per_s ? ["batched", `${number(row.batched_tokens_per_s, 4)} tok/s`] : ["offline, alone", row.throughput_tokens_per_s ? `${number(row.throughput_tokens_per_s, 4)} tok/s` : null],
    ["peak", peakOf(row) ? mebibytes(peakOf(row)) : null],
    ["scores kept", kept !== null && !row.is_reference ? percent(kept, 2) : null], [row.price_source === "alone" ? "per million tokens, alone" : "per million tokens", row.usd_per_million_tokens ? `$${number(row.usd_per_million_tokens)}` : null],
  ];
  return element("dl", { class: "figures" }, ...entries.filter(([, value]) => value).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function panel(title, about, draw, ...more) {
  const node = element("section", { class: "panel" }, element("h3", {}, title), element("p", {}, about), ...more);
  if (draw) responsive(node, draw);
  return node;
}

function distributionPanel(cell, key, title) {
  const samples = cell.samples[key];
  if (!samples.length) return null;
  const { batch, prompt_tokens: prompt, new_tokens: tokens } = cell.shape;
  const shown = samples.length < cell.counts[key] ? `, ${samples.length} of them drawn` : "";
  const source = cell.source === "interleaved" ? `${cell.launches} launches, in turns with the other cells` : "alone, in one process";
  return panel(title, `${source}; n = ${cell.counts[key]}${shown}; batch ${batch}, ${prompt} prompt and ${tokens} new tokens`, (width) => distribution(width, samples, cell.middle[key], title));
}

function wallPanel(cell) {
  if (!cell.wall.length) return null;
  const total = cell.wall.reduce((sum, [, seconds]) => sum + seconds, 0);
  const legend = element("ul", { class: "legend" }, ...cell.wall.map(([name, seconds], index) =>
    element("li", { style: `--hue:${wallHue(name, index)}` }, element("i", { class: "dot" }), `${name} `, element("b", {}, `${number(seconds)} s`))));
  const node = panel("Wall time by phase", `${number(total)} s from start to record`, (width) => {
    legend.remove();
    queueMicrotask(() => node.append(legend));
    return wallBar(width, cell.wall);
  });
  return node;
}

function startPanel(row) {
  const kinds = { cold: "cold start: artifacts were built or compiled", warm: "warm start: artifacts were cached", plain: "no artifacts to build" };
  const isKnown = (value) => value !== null && value !== undefined;
  const lines = [["load, builds included", row.load_s], ["first call, compilation included", row.first_call_s]].filter(([, value]) => isKnown(value));
  if (!lines.length) return null;
  const cells = lines.map(([name, seconds]) => [name, `${number(seconds)} s`]);
  if (isKnown(row.build_s)) cells.push(["cached build", `${number(row.build_s)} s when it was built`]);
  const unit = (name) => {
    const [after, soon, late] = ["", "_low", "_high"].map((end) => row[`break_even_${name}${end}`]);
    if (!isKnown(after)) return null;
    if (after === 0) return `from the first ${name.slice(0, -1)}`;
    return `after ${whole(after)} ${name} [${whole(soon)}, ${whole(late)}]`;
  };
  const units = ["tokens", "requests"].map(unit).filter(Boolean);
  const slower = isKnown(row.speedup_ratio_high) && row.speedup_ratio_high < 1;
  const summary = row.is_reference ? "The reference: break-even is counted against it."
    : row.break_even_tokens === 0 ? "Breaks even at the first token: it starts no later than the reference."
    : units.length ? `Breaks even ${units.join(", ")}.`
    : slower ? "Never breaks even: it is slower than the reference."
    : "No break-even is shown: it is not shown to be faster than the reference in wall time, or was not timed in turns with it.";
  const kind = kinds[row.start_kind] ? ` ${kinds[row.start_kind][0].toUpperCase()}${kinds[row.start_kind].slice(1)}.` : "";
  return panel("Break-even", summary + kind, null,
    element("table", { class: "plain small" }, element("tbody", {}, ...cells.map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", { class: "number" }, value))))));
}

function memoryPanel(cell) {
  const peaks = Object.entries(cell.memory.peaks).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${mebibytes(value)}`);
  if (!peaks.length && cell.memory.trace.length < 2) return null;
  const bounds = cell.memory.estimate;
  const estimate = bounds ? ` Estimated before loading: ${mebibytes(bounds[0])} to ${mebibytes(bounds[1])}.` : "";
  const about = `Peaks above the memory in use after imports: ${peaks.join(", ") || "not measured"}.${estimate}${cell.memory.trace.length > 1 ? "" : " The record has no trace over time."}`;
  return panel("Memory", about, cell.memory.trace.length > 1 ? (width) => memoryLine(width, cell.memory.trace) : null);
}

function rooflinePanel(row, cell) {
  const shares = [row.decode_mbu_ratio ? `Decoding moves ${percent(row.decode_mbu_ratio, 0)} of the machine’s copy bandwidth.` : "", row.prefill_mfu_ratio ? `Prefill reaches ${percent(row.prefill_mfu_ratio, 0)} of its ${row.dtype} rate.` : ""];
  if (cell.roofline.reason) return row.tpot_s_p50 ? panel("Roofline", [`No chart: ${cell.roofline.reason}.`, ...shares].join(" ")) : null;
  const packed = cell.roofline.is_packed ? `The roof is for ${cell.roofline.dtype}; operations are those of the full model, bytes those of its packed weights.` : "";
  return panel("Roofline", ["The hardware peak was measured on this machine.", ...shares, packed].filter(Boolean).join(" "), (width) => rooflineChart(width, cell.roofline));
}

function shapePanel(row, cell) {
  if (!cell.grid.length) return null;
  if (cell.grid.length === 1) {
    const shape = cell.grid[0];
    return panel("Batch and sequence", `One shape was measured: batch ${shape.batch}, ${shape.prompt_tokens} prompt tokens, ${number(shape.tokens_per_s)} tokens/s, not interleaved. For a curve:`, null,
      element("pre", {}, `${row.command} 'benchmark.latency.batch=[1,4,16]' 'benchmark.latency.prompt_tokens=[16,64]'`));
  }
  return panel("Batch and sequence", "New tokens per second over all rows of a batch, not interleaved.", (width) => shapeLines(width, cell.grid));
}

function notesPanel(cell) {
  if (!cell.skipped.length && !cell.notes.length) return null;
  return panel("Notes", "", null, element("ul", {}, ...cell.skipped.map(([name, status, reason]) => element("li", {}, `${name}: ${status}: ${reason ?? ""}`)), ...cell.notes.map((note) => element("li", {}, note))));
}

function causesPanel(row, cell) {
  if (!cell.causes.length) return null;
  return panel("Why it differs from the reference", "", null, element("ul", {}, ...cell.causes.map((line) => element("li", {}, line))));
}

function ladderPanel(cell) {
  if (!cell.ladder) return null;
  const line = (tag, texts) => element("tr", {}, ...texts.map((text) => element(tag, {}, text)));
  return panel("Which change costs accuracy", cell.ladder.verdict, null,
    element("table", { class: "plain small" }, element("thead", {}, line("th", cell.ladder.header)), element("tbody", {}, ...cell.ladder.steps.map((step) => line("td", step)))));
}

function items(row, cell) {
  if (row.is_reference) return null;
  const counts = Object.entries(cell.flipped.differing).map(([name, count]) => `${count} of ${name.replaceAll("_", " ")}`);
  const about = cell.flipped.reason ? cell.flipped.reason
    : row.against === null || row.against === undefined ? "Answers were not compared with a reference of the same run."
    : counts.length ? `Answers that differ from the reference’s: ${counts.join(", ")}. Shown: ${cell.flipped.items.length}, those with a changed verdict first.`
    : "No answer differs from the reference’s.";
  return element("section", {}, element("h3", {}, "Changed answers"), element("p", { class: "fine" }, about), ...cell.flipped.items.map(item));
}

function item(flipped) {
  const side = (title, text, isRight) => element("div", { class: isRight === null || isRight === undefined ? "" : isRight ? "right" : "wrong" },
    element("small", {}, `${title}${isRight === null || isRight === undefined ? "" : isRight ? ", right" : ", wrong"}`), element("pre", {}, text));
  return element("article", { class: "item" },
    element("small", {}, `${flipped.benchmark.replaceAll("_", " ")} · ${flipped.id}`),
    flipped.question ? element("blockquote", {}, flipped.question) : null,
    element("div", { class: "sides" }, side("reference", flipped.reference, flipped.reference_right), side("this cell", flipped.cell, flipped.cell_right)),
    flipped.wanted ? element("p", { class: "fine" }, `right answer: ${flipped.wanted}`) : null);
}

function environment(cell) {
  const known = Object.entries(cell.environment).filter(([, value]) => value !== null && value !== undefined);
  return element("details", {}, element("summary", {}, "Environment"),
    element("table", { class: "plain small" }, element("tbody", {}, ...known.map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", {}, String(value)))))));
}
