// What failed, with what can be done about it; and the log of the last events.
import { el } from "../base/dom.js";
import { askButton, KeyedRows, setText } from "./mon_rows.js";
import { clockWords, countOf, kindWords } from "./mon_words.js";

const REMEDIES = {
  object_refused: "Kept in quarantine if it came whole: lake.refused()",
  conflict: "See both: lake.conflicts()",
  association_refused: "Look at the peers that may call: lake.toml",
  disk_low: "Make room: nothing more is taken when the disk is full",
};

export class FailureList {
  constructor({ retry }) {
    this.retry = retry;
    this.title = el("h4", {}, "Failures");
    this.list = el("ul", { class: "dl-mon-failures", "aria-label": "Failures" });
    this.none = el("div", { class: "dl-muted" }, "✓ None");
    this.node = el("section", { class: "dl-mon-section" }, this.title, this.none, this.list);
    this.rows = new KeyedRows(this.list, () => this.row());
  }

  update(page) {
    const entries = [...page.failures].sort(([, one], [, other]) => (one.at < other.at ? 1 : -1));
    setText(this.title, entries.length ? `Failures (${entries.length})` : "Failures");
    this.none.hidden = Boolean(entries.length);
    this.list.hidden = !entries.length;
    this.rows.show(entries);
  }

  row() {
    const [time, what, from, reason, remedy] = ["dl-mon-time", "dl-mon-what", "dl-muted", "dl-mon-reason", "dl-muted"].map((name) => el("span", { class: name }));
    let series = "";
    const button = askButton("Try again", "Settle it and build its volumes again", "", () => this.retry(series));
    const words = el("div", { class: "dl-mon-failure-words" }, el("div", { class: "dl-row" }, time, el("span", { class: "dl-mon-symbol", "aria-hidden": "true" }, "✕"), what, from), reason, remedy);
    const node = el("li", {}, words, button);
    return {
      node,
      update: (row) => {
        series = row.series;
        setText(time, clockWords(row.at));
        setText(what, kindWords(row.kind) + (row.count > 1 ? ` (${row.count.toLocaleString("en")} times)` : ""));
        setText(from, [row.label, row.calling && `from ${row.calling}`].filter(Boolean).join(" · "));
        setText(reason, row.reason);
        setText(remedy, row.retry ? "" : REMEDIES[row.kind] || "");
        for (const one of [reason, remedy]) one.hidden = !one.textContent;
        button.hidden = !row.retry;
        button.setAttribute("aria-label", `Try again: ${kindWords(row.kind)}, ${row.label.replace("…", "ending in ")}`);
      },
    };
  }
}

export class EventList {
  constructor() {
    this.summary = el("summary", {}, "Last events");
    this.body = el("tbody");
    const table = el("table", { class: "dl-mon-table", "aria-label": "Last events" }, this.body);
    this.node = el("details", { class: "dl-mon-section" }, this.summary, el("div", { class: "dl-mon-scroll dl-mon-log", tabindex: "0", role: "group", "aria-label": "Last events" }, table));
    this.node.addEventListener("toggle", () => this.page && this.update(this.page));
    this.rows = new KeyedRows(this.body, () => eventRow());
  }

  update(page) {
    this.page = page;
    setText(this.summary, page.log.size ? `Last events (${countOf(page.log.size, "event")})` : "Last events");
    if (!this.node.open) return;
    this.rows.show([...page.log].sort(([, one], [, other]) => (one.at < other.at ? 1 : -1)));
  }
}

function eventRow() {
  const [time, what, of, from, detail] = ["dl-mon-time", "", "dl-mon-uid", "", "dl-mon-detail"].map((name) => el("td", { class: name || null }));
  return {
    node: el("tr", {}, time, what, of, from, detail),
    update(row) {
      setText(time, clockWords(row.at));
      setText(what, kindWords(row.kind) + (row.count > 1 ? ` × ${row.count.toLocaleString("en")}` : ""));
      setText(of, row.label);
      setText(from, row.calling);
      setText(detail, row.detail);
    },
  };
}
