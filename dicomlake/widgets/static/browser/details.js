// What is known of one series: volumes, what is wrong with it, labels, facts.
import { el } from "../base/dom.js";
import { badge, labelBadge } from "./rows.js";
import { verdictOf } from "./words.js";

const FINDING_SIGNS = { error: ["✕", "bad"], warning: ["⚠", "warn"], info: ["ℹ", "plain"] };

/** The inside of the details pane. add: puts a condition into the search box. */
export function detailsInside(data, add) {
  return [
    section("Volumes", data.volumes.map(volumeLine)),
    section("Findings", data.findings.map(findingLine)),
    section("Conflicts", data.conflicts.map((uid) => el("li", {}, "another object has the UID ", el("code", {}, uid)))),
    section("Labels", data.labels.map((one) => el("li", {}, labelBadge(one), ` of the ${one.level}`))),
    el("h4", {}, "Facts"),
    factsTable(data, add),
  ];
}

function section(title, lines) {
  return lines.length ? el("section", {}, el("h4", {}, title), el("ul", { class: "dl-br-lines-list" }, lines)) : null;
}

function volumeLine(volume) {
  const verdict = verdictOf([volume]);
  const shape = volume.dims.map((dim, i) => `${dim} ${volume.shape[i]}`).join(" × ");
  const spacing = volume.spacing_mm ? `, ${volume.spacing_mm.join(" × ")} mm` : "";
  const kind = [volume.dtype, volume.units].filter(Boolean).join(", ");
  return el("li", {}, badge(verdict.symbol, verdict.word, verdict.tone), ` ${shape}${spacing} (${kind})`, el("div", { class: "dl-muted" }, volume.reason));
}

/** One finding as a list item. */
export function findingLine(finding) {
  const [symbol, tone] = FINDING_SIGNS[finding.severity] || ["?", "plain"];
  return el("li", {}, badge(symbol, finding.severity, tone), ` ${finding.kind}: ${finding.message}`);
}

function factsTable(data, add) {
  const rows = [["Kind", data.kind], ["Transfer syntax", data.syntaxes.join(", ")], ...data.facts];
  return el("table", { class: "dl-br-facts" }, el("tbody", {}, rows.map(([name, value]) => factRow(name, value, add))));
}

function factRow(name, value, add) {
  const text = typeof value === "number" ? String(Math.round(value * 1e6) / 1e6) : String(value);
  const plain = /^[^\s",*?\\]+$/.test(text) ? text : `"${text}"`;
  const can = /^[A-Z]\w+$/.test(name) && name !== "Kind" && !/["*?\\]/.test(text);
  const button = can ? el("button", { type: "button", class: "dl-br-small dl-br-adder", title: `Add to query: ${name}=${plain}`, "aria-label": `Add ${name} to the query`, onclick: () => add(`${name}=${plain}`) }, "+ query") : null;
  return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, el("span", {}, text), button));
}
