// The studies that arrive: a row each, unfolding into its series.
import { el } from "../base/dom.js";
import { askButton, KeyedRows, progressCell, setText, stateBadge } from "./mon_rows.js";
import { clockWords, countOf, missingWords } from "./mon_words.js";

const COLUMNS = ["Study", "Modality", "State", "Received", "Missing", "Since", "From", ""];

export class StudyTable {
  /** settle(key), retry(key): ask Python; opened(): something was unfolded. */
  constructor({ settle, retry }) {
    this.does = { settle, retry };
    this.open = new Set();
    this.names = new Map();
    this.page = null;
    this.body = el("tbody");
    const head = el("thead", {}, el("tr", {}, COLUMNS.map((name) => (name ? el("th", { scope: "col" }, name) : el("td")))));
    this.table = el("table", { class: "dl-mon-table", "aria-label": "Studies that arrive" }, head, this.body);
    this.empty = el("div", { class: "dl-mon-empty", hidden: true }, "Nothing arrived yet. Studies appear here as they come.");
    this.node = el("div", { class: "dl-mon-scroll", tabindex: "0", role: "group", "aria-label": "Studies" }, this.table, this.empty);
    this.rows = new KeyedRows(this.body, (key) => (key.startsWith("s") ? this.studyRow(key) : this.seriesRow(key)));
  }

  /** Show a page: maps of studies and series. */
  update(page) {
    this.page = page;
    const bySeries = new Map();
    for (const [key, row] of page.series) {
      if (!bySeries.has(row.study)) bySeries.set(row.study, []);
      bySeries.get(row.study).push([key, row]);
    }
    for (const key of this.open) if (!page.studies.has(key)) this.open.delete(key);
    const studies = [...page.studies].sort(newestFirst);
    const entries = studies.flatMap(([key, row]) => [[key, row], ...(this.open.has(key) ? (bySeries.get(key) || []).sort(newestFirst).reverse() : [])]);
    this.rows.show(entries);
    this.table.hidden = !studies.length;
    this.empty.hidden = Boolean(studies.length);
  }

  /** Show what studies are called, or nothing of it with an empty map. */
  setNames(names) {
    this.names = names;
    if (this.page) this.update(this.page);
  }

  toggle(key) {
    if (!this.open.delete(key)) this.open.add(key);
    this.update(this.page);
  }

  studyRow(key) {
    const twist = el("button", { type: "button", class: "dl-mon-twist", "aria-expanded": "false", onclick: () => this.toggle(key) });
    const sign = el("span", { class: "dl-mon-twist-sign", "aria-hidden": "true" }, "▸");
    const label = el("span", { class: "dl-mon-uid" });
    const count = el("span", { class: "dl-muted" });
    twist.append(sign, label);
    const name = el("div", { class: "dl-mon-name" });
    const cells = sharedCells();
    const settle = askButton("Settle now", "Do not wait for more: make it visible and build its volumes", "", () => this.does.settle(key));
    const action = el("td", { class: "dl-mon-action" }, settle);
    const node = el("tr", { class: "dl-mon-study", "data-key": key }, el("th", { scope: "row" }, el("div", { class: "dl-mon-study-line" }, twist, count), name), cells.nodes, action);
    return {
      node,
      update: (row) => {
        const open = this.open.has(key);
        twist.setAttribute("aria-expanded", String(open));
        setText(sign, open ? "▾" : "▸");
        setText(label, row.label);
        twist.setAttribute("aria-label", `Study ending in ${row.label.replace("…", "")}, ${row.state}, ${countOf(row.series, "series", "series")}`);
        setText(count, countOf(row.series, "series", "series"));
        this.showName(name, key);
        cells.update(row, row.modalities.join(", "), row.calling.join(", "), `Study ending in ${row.label.replace("…", "")}`);
        settle.hidden = !row.open && document.activeElement !== settle;
        settle.setAttribute("aria-label", `Settle now the study ending in ${row.label.replace("…", "")}`);
      },
    };
  }

  showName(place, key) {
    const found = this.names.get(key);
    place.hidden = !found;
    if (!found) {
      setText(place, "");
      place.removeAttribute("title");
      return;
    }
    const words = [found.PatientID, found.StudyDescription].filter(Boolean).join(" · ");
    setText(place, found.known ? words || "without a name" : "not known before it settles");
    place.title = `${place.textContent}\n${found.uid}`;
  }

  seriesRow(key) {
    const cells = sharedCells();
    const label = el("span", { class: "dl-mon-uid" });
    const problem = el("div", { class: "dl-mon-problem" });
    const retry = askButton("Try again", "Settle it and build its volumes again", "", () => this.does.retry(key));
    const node = el("tr", { class: "dl-mon-series", "data-key": key }, el("th", { scope: "row" }, label, problem), cells.nodes, el("td", { class: "dl-mon-action" }, retry));
    return {
      node,
      update: (row) => {
        setText(label, row.label);
        setText(problem, row.problem);
        problem.hidden = !row.problem;
        cells.update(row, row.modality, row.calling, `Series ending in ${row.label.replace("…", "")}`);
        retry.hidden = row.state !== "failed" && document.activeElement !== retry;
        retry.setAttribute("aria-label", `Try again the series ending in ${row.label.replace("…", "")}`);
      },
    };
  }
}

/** The cells that rows of studies and of series have in common. */
function sharedCells() {
  const state = stateBadge();
  const progress = progressCell();
  const [modality, missing, since, from] = ["", "dl-mon-missing", "dl-mon-time", ""].map((name) => el("td", { class: name || null }));
  return {
    nodes: [modality, el("td", {}, state.node), el("td", {}, progress.node), missing, since, from],
    update(row, modalities, calling, about) {
      state.update(row.state);
      progress.update(row.received, row.expected, `${about}: received of expected`);
      setText(modality, modalities);
      setText(missing, missingWords(row));
      setText(since, clockWords(row.since));
      setText(from, calling);
    },
  };
}

function newestFirst([oneKey, one], [otherKey, other]) {
  if (one.since !== other.since) return one.since < other.since ? 1 : -1;
  return otherKey.localeCompare(oneKey, "en", { numeric: true });
}
