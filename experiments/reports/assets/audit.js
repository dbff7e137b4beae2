// The audit of a cell: one line per check, with its verdict and what was found.
const auditMarks = { pass: "passed", fail: "failed", not_checked: "not checked" };

function auditPanel(cell) {
  if (!cell.audit.length) return null;
  const lines = cell.audit.map((check) => element("tr", {},
    element("td", {}, check.name.replaceAll("_", " ")),
    element("td", {}, element("span", { class: check.verdict === "fail" ? "status alarm" : "" }, auditMarks[check.verdict])),
    element("td", {}, check.found)));
  return panel("Audit", "Whether the timed work is the requested work, and the work whose answers were scored.", null,
    element("table", { class: "plain small" }, element("tbody", {}, ...lines)));
}
