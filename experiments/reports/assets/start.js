// The page's data, formats and elements, for all other scripts.
const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.rows.map((values) => Object.fromEntries(data.keys.map((key, index) => [key, values[index]])));
const rowOf = new Map(rows.map((row) => [row.record_id, row]));
const columnOf = new Map(data.columns.map((column) => [column.key, column]));
const markOf = new Map(data.marks.map(([id, key, mark]) => [id + " " + key, mark]));
const limits = { floor: 0, ceiling: Infinity }; // share of the reference's scores, bytes
const MIB = 2 ** 20;

const byId = (id) => document.getElementById(id);
/** Variants of a runtime share its colour: onnxruntime+int8 and onnxruntime, gptq2 and gptq. */
const family = (row) => row.runtime.split("+")[0].replace(/\d+$/, "");
const hues = [...new Set(rows.map(family))];
const hue = (row) => `var(--s${hues.indexOf(family(row)) % 8})`;

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A status as CSS classes: spaces become hyphens, failed timing is an alarm. */
const statusClass = (row) => row.status.replaceAll(" ", "-") + (data.alarms.includes(row.status) ? " alarm" : "");

const peakOf = (row) => data.peaks[row.record_id];

/** Whether a row is within both limits; with a limit set, an unmeasured value does not qualify. */
function qualifies(row) {
  const kept = data.kept[row.record_id] ?? null;
  const peak = peakOf(row);
  const isAccurate = limits.floor === 0 || (kept !== null && kept >= limits.floor);
  const isSmall = limits.ceiling === Infinity || (peak !== null && peak <= limits.ceiling);
  return row.status === "ok" && isAccurate && isSmall;
}

const number = (value, digits = 3) =>
  value === null || value === undefined ? "n/a" : Number(value.toPrecision(digits)).toLocaleString("en");
const whole = (value) => Math.ceil(value).toLocaleString("en");
const milliseconds = (seconds) => (seconds === null || seconds === undefined ? "n/a" : `${number(seconds * 1e3)} ms`);
const mebibytes = (bytes) => (bytes === null || bytes === undefined ? "n/a" : `${number(bytes / MIB)} MiB`);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const signed = (share) => `${share < 0 ? "−" : "+"}${percent(Math.abs(share), 0)}`;

/** Redraws the panel when its width changes, so that text keeps its size. */
function responsive(node, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(node.clientWidth - parseFloat(getComputedStyle(node).paddingLeft) * 2);
    if (now > 0 && now !== width) {
      width = now;
      node.querySelector("svg")?.remove();
      node.append(draw(width));
    }
  }).observe(node);
}

const tip = byId("tip");

function showTip(anchor, lines) {
  tip.replaceChildren(...lines.map((line, index) => element(index ? "div" : "b", {}, line)));
  tip.hidden = false;
  const box = anchor.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left), window.innerWidth - tip.offsetWidth - 8);
  const isBelow = box.bottom + tip.offsetHeight + 12 < window.innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${isBelow ? box.bottom + 6 : Math.max(4, box.top - tip.offsetHeight - 6)}px`;
  anchor.setAttribute("aria-describedby", "tip");
}

function hideTip() {
  tip.hidden = true;
  for (const node of document.querySelectorAll('[aria-describedby="tip"]')) node.removeAttribute("aria-describedby");
}
