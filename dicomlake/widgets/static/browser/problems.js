// What is wrong in a lake: findings, and what lies in quarantine, with the reasons.
import { el } from "../base/dom.js";
import { findingLine } from "./details.js";
import { countText, sizeText } from "./words.js";

/** The inside of the problems pane. find: puts a UID into the search box. */
export function problemsInside(data, find) {
  if (!data.all_findings && !data.all_refused) return [el("div", { class: "dl-br-empty" }, "✓ Nothing is known to be wrong: no findings, nothing in quarantine.")];
  return [
    el("h4", {}, countText(data.all_findings, "finding")),
    el("ul", { class: "dl-br-lines-list" }, data.findings.map((one) => scoped(one, find))),
    more(data.findings.length, data.all_findings, "lake.findings()"),
    el("h4", {}, `${countText(data.all_refused, "object")} in quarantine`),
    el("ul", { class: "dl-br-lines-list" }, data.reasons.map(([reason, count]) => el("li", {}, `${count} × ${reason}`))),
    data.refused.length ? refusedTable(data.refused) : null,
    more(data.refused.length, data.all_refused, "lake.refused()"),
  ];
}

function scoped(finding, find) {
  const line = findingLine(finding);
  if (/^[0-2](\.\d+)+$/.test(finding.scope)) line.append(" ", el("button", { type: "button", class: "dl-br-small", title: finding.scope, onclick: () => find(finding.scope) }, "find"));
  return line;
}

function refusedTable(refused) {
  const head = el("tr", {}, ["Origin", "Size", "Reason"].map((name) => el("th", { scope: "col" }, name)));
  const rows = refused.map((one) => el("tr", { title: `sha256 ${one.sha256}` }, el("td", {}, one.origin), el("td", {}, sizeText(one.size)), el("td", {}, one.reason)));
  return el("table", { class: "dl-br-facts" }, el("thead", {}, head), el("tbody", {}, rows));
}

function more(shown, all, how) {
  return shown < all ? el("p", { class: "dl-muted" }, `${countText(all - shown, "other")} in ${how}`) : null;
}
