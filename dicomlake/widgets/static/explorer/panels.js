// What stands below the facets at times: why nothing is found, where values are missing, keeping a cohort.

import { el } from "../base/dom.js";
import { exCount, exNumber, exWords } from "./words.js";

/** Why the query found nothing, with a button for each term to drop it. */
export function exExplanation(app, { steps, emptied, instead, total }) {
  const rows = steps.map((step, place) =>
    el(
      "tr",
      { class: place === emptied ? "dl-ex-emptied" : "" },
      el("td", {}, el("code", {}, step.text), place === emptied ? el("strong", {}, " left none") : null),
      el("td", { class: "dl-ex-right" }, exNumber(step.alone)),
      el("td", { class: "dl-ex-right" }, exNumber(step.left)),
      el("td", {}, el("button", { class: "dl-ex-drop", onclick: () => app.send("drop", { place }) }, `Drop: ${exCount(step.without, "series", "series")}`)),
    ),
  );
  return el(
    "div",
    { class: "dl-ex-why" },
    el("p", {}, el("strong", {}, "No series meets all of this."), ` ${exNumber(total)} are explored.`),
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...["condition", "alone", "left after it", ""].map((word) => el("th", { scope: "col" }, word)))),
      el("tbody", {}, ...rows),
    ),
    exInstead(instead),
  );
}

function exInstead({ path, values, missing, span, units }) {
  if (!path) return null;
  const some = values.map(({ value, series }) => `${value} (${exNumber(series)})`).join(", ");
  const parts = [];
  if (span && span[0] !== span[1]) parts.push(`${path} is between ${span[0]} and ${span[1]} ${units}`.trim());
  if (some) parts.push(`${span && span[0] !== span[1] ? "most often" : `${path} there is`} ${some}`);
  if (missing) parts.push(`${exCount(missing, "series", "series")} without a value`);
  return el("p", {}, `Among the series before it: ${parts.join("; ") || `no ${path} at all`}.`);
}

/** Shares of missing values: a row for each column, groups of a facet across. */
export function exMissing(app, { by, groups, rows }, choices) {
  const choose = el("select", { "aria-label": "Groups", onchange: (event) => app.showMissing(event.target.value) });
  choose.append(...choices.map((name) => el("option", { value: name, selected: name === by }, exWords(name))));
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, ""),
    ...groups.map(({ label, series }) => el("th", { scope: "col", title: `${label}: ${exCount(series, "series", "series")}` }, el("span", {}, label))),
  );
  const body = rows.map(({ name, share }) =>
    el("tr", {}, el("th", { scope: "row" }, name), ...share.map((part, i) => exShare(part, name, groups[i].label))),
  );
  return el(
    "div",
    { class: "dl-ex-gaps" },
    el("div", { class: "dl-row" }, el("span", {}, "Share of series without a value, by"), choose),
    el("div", { class: "dl-ex-wide" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body))),
  );
}

function exShare(part, name, group) {
  const percent = 100 * part;
  const text = percent === 0 ? "·" : percent < 1 ? "<1" : percent > 99 && percent < 100 ? ">99" : String(Math.round(percent));
  const cell = el("td", { title: `${name}, ${group}: ${percent.toFixed(percent < 1 ? 2 : 0)} % missing` }, el("span", {}, text));
  cell.style.setProperty("--dl-ex-share", String(part));
  return cell;
}

/** A form that keeps the cohort under a name. */
export function exKeeping(app, withNote) {
  const name = el("input", { placeholder: "name", "aria-label": "Name of the cohort", required: true, spellcheck: "false" });
  const note = el("input", { placeholder: "note", "aria-label": "Note", hidden: !withNote });
  const told = el("output", { class: "dl-ex-told" });
  const keep = async (event) => {
    event.preventDefault();
    told.textContent = "keeping …";
    const answer = await app.ask("freeze", { name: name.value, note: note.value }, "freeze");
    told.textContent = answer ? answer.data.told : "";
    if (answer) app.view.announce(answer.data.told);
  };
  const form = el("form", { class: "dl-row dl-ex-keep", hidden: true, onsubmit: keep }, name, note, el("button", { type: "submit" }, "Keep"), told);
  form.open = () => {
    form.hidden = !form.hidden;
    told.textContent = "";
    if (!form.hidden) name.focus();
  };
  return form;
}
