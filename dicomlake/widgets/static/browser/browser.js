// The browser of a lake: search, tree, details, viewers, uploads.
import { linkOf } from "../base/link.js";
import { el, frame, keysOf, settled } from "../base/dom.js";
import { detailsInside } from "./details.js";
import { Documents } from "./documents.js";
import { hosted } from "../base/hosted.js";
import { tabsOf } from "./panes.js";
import { problemsInside } from "./problems.js";
import { searchBox } from "./search.js";
import { Tags } from "./tags.js";
import { thumbStore } from "./thumbs.js";
import { Tree } from "./tree.js";
import { Uploads } from "./upload.js";
import { countText } from "./words.js";

const SORT_WORDS = { patient: "by patient", date: "newest first", size: "largest first" };

class LakeBrowser {
  constructor(model, host) {
    this.model = model;
    this.link = linkOf(model);
    this.view = frame(host, this.link, model, "Browser of a lake");
    this.name = Math.random().toString(36).slice(2); // of this view, so that it does not hear itself
    this.list = 0;
    this.chosen = 0; // how many series are selected
    this.focus = { level: "", row: null };
    this.stops = [];
    this.makeParts();
    this.layOut();
    this.hear();
    this.follow = settled(() => this.fillSide(), 180);
  }

  // ---- parts -----------------------------------------------------------------------------------------

  makeParts() {
    const failed = (failure) => this.failed(failure);
    const add = (condition) => this.search.add(condition);
    this.thumbs = thumbStore(this.link, () => this.tree.draw());
    this.tree = new Tree(
      {
        children: async (args) => (await this.ask("children", args)).rows,
        choose: (ranges) => this.choose({ ranges }),
        chooseAll: () => this.choose({ all: true }),
        open: (row, other) => this.open(row, other),
        focused: (level, row) => this.focused(level, row),
        search: () => this.search.focus(),
      },
      this.thumbs,
    );
    this.search = searchBox({ find: (text) => this.find(text), hints: (text) => this.ask("hints", { text }, "hints"), leave: () => this.tree.node.focus() });
    this.details = el("div", { class: "dl-br-details" });
    this.tags = new Tags({ ask: (name, args, key) => this.ask(name, args, key, true), add, announce: this.view.announce, failed });
    this.documents = new Documents({ ask: (args) => this.link.ask("document", args, { key: "document" }), failed });
    this.problems = el("div", { class: "dl-br-details" });
    const parts = [["details", "Details", this.details], ["tags", "Tags", this.tags.node], ["documents", "Documents", this.documents.node], ["problems", "Problems", this.problems]];
    this.side = tabsOf(parts, () => this.fillSide());
    this.uploads = new Uploads({
      ask: async (name, args, buffers) => (await this.link.ask(name, args, { buffers })).data,
      announce: this.view.announce,
      done: (data) => (data.counts.stored || data.counts.conflict || data.counts.refused) && this.again(),
    });
    this.viewers = hosted(this.model, ["viewer", "other"], (name) => this.ask("unview", { other: name === "other" }), failed);
  }

  layOut() {
    this.counts = el("span", { class: "dl-br-counts dl-muted", role: "status" });
    this.sort = el("select", { "aria-label": "Order", onchange: () => this.again() }, Object.entries(SORT_WORDS).map(([value, word]) => el("option", { value }, word)));
    const press = (text, title, act) => el("button", { type: "button", title, onclick: act }, text);
    this.viewButton = press("View", "Show the first series selected, or the one under the cursor (Enter)", () => this.showChosen());
    this.otherButton = press("Compare", "Show the first two selected; or the one selected or under the cursor beside the one that is shown (Shift+Enter)", () => this.compareChosen());
    this.allButton = press("Select all matching", "Choose all that the search finds, as a query (Ctrl+A)", () => this.choose({ all: true }));
    this.noneButton = press("Clear", "Choose nothing", () => this.choose({ ranges: [] }));
    this.told = el("span", { class: "dl-br-told", role: "status" });
    this.left = el("div", { class: "dl-br-left" }, this.tree.node);
    this.setHeight();
    this.view.root.classList.add("dl-browser");
    this.view.root.append(
      el("div", { class: "dl-row dl-br-top" }, this.search.node, this.sort, this.uploads.buttons),
      this.uploads.node,
      el("div", { class: "dl-br-main" }, this.left, this.side.node),
      el("div", { class: "dl-row dl-br-bottom" }, this.viewButton, this.otherButton, this.allButton, this.noneButton, this.told, this.counts),
      this.viewers.node,
      el("div", { class: "dl-br-drop-words", "aria-hidden": "true" }, "Drop DICOM files, folders or archives to take them in"),
    );
    keysOf(this.view.root, (event) => {
      if (event.key !== "/") return false;
      this.search.focus();
      return true;
    });
  }

  hear() {
    const { link } = this;
    this.stops.push(
      link.on("query", ({ text, by }) => by !== this.name && this.search.set(text)),
      link.on("selected", ({ by }) => by !== this.name && this.whereChosen()),
      link.on("ingested", (data) => this.uploads.ingested(data)),
    );
    const onHeight = () => this.setHeight();
    this.model.on("change:height", onHeight);
    this.stops.push(() => this.model.off("change:height", onHeight));
  }

  setHeight() {
    this.left.style.height = this.side.node.style.height = `${this.model.get("height")}px`;
  }

  async begin() {
    const { text, sort, read_only: readOnly, can_view: canView } = await this.ask("start");
    this.sort.value = sort;
    this.canView = canView;
    this.readOnly = readOnly;
    this.viewButton.hidden = this.otherButton.hidden = !canView;
    this.uploads.listen(this.view.root, readOnly);
    if (readOnly) {
      for (const button of this.uploads.buttons.querySelectorAll("button")) button.disabled = true;
      this.uploads.buttons.title = "This lake is read-only: nothing can be added";
      this.uploads.buttons.prepend(el("span", { class: "dl-muted" }, "read-only"));
    }
    this.search.input.value = text;
    this.side.show("details");
    await this.search.find();
    this.view.state("ready");
  }

  // ---- asks ------------------------------------------------------------------------------------------

  /** The data of an answer. throws: leave failures to the caller, else they are shown. */
  async ask(name, args = {}, key = null, throws = false) {
    try {
      return (await this.link.ask(name, args, { key })).data;
    } catch (failure) {
      if (!throws) this.failed(failure);
      throw failure;
    }
  }

  failed(failure) {
    this.view.showError(failure.message);
  }

  /** List what a text finds; what is wrong with it, or null. */
  async find(text) {
    let data;
    const about = this.focus.row;
    try {
      data = await this.ask("list", { text, sort: this.sort.value, view: this.name, about: about ? about.id : null });
    } catch {
      return null; // shown already
    }
    this.left.classList.toggle("dl-br-stale", Boolean(data.problem));
    this.allButton.disabled = Boolean(data.problem);
    if (data.problem) {
      this.forgetEmpty();
      return data.problem;
    }
    this.view.showError("");
    this.list = data.list;
    this.listed = data.counts;
    this.showCounts(data.counts, text);
    this.setChosen(data);
    this.tree.show(data.list, data.counts);
    if (this.focus.row && (this.focus.row !== about || !data.holds)) this.forgetFocus();
    return null;
  }

  /** That a search found nothing is not said of a text that could not be understood. */
  forgetEmpty() {
    if (this.listed?.series) return;
    this.tree.empty.hidden = true;
    this.counts.textContent = "";
    this.view.announce("");
  }

  /** What was under the cursor is not listed any more: nothing is told of it. */
  forgetFocus() {
    this.focus = { level: "", row: null };
    this.filled = "";
    this.followCursor();
    this.fillSide();
  }

  again() {
    return this.search.find();
  }

  showCounts(counts, text) {
    const words = [countText(counts.patients, "patient"), countText(counts.studies, "study", "studies"), countText(counts.series, "series", "series")];
    this.counts.textContent = words.join(", ");
    this.view.announce(`${text ? "Found" : "There are"} ${words.join(", ")}`);
    this.tree.empty.hidden = counts.series > 0;
    if (!counts.series) this.tree.empty.replaceChildren(...this.emptyWords(text));
  }

  emptyWords(text) {
    if (text.trim()) return [el("p", {}, "No series meets all of this."), el("p", { class: "dl-muted" }, "Take a condition away; lake.query(…).explain() tells which one left none.")];
    const how = this.readOnly ? "This lake is read-only: open it where it can be written to add some." : "Drop DICOM files, folders or archives here, or run lake.ingest(path).";
    return [el("p", {}, "No series yet."), el("p", { class: "dl-muted" }, how)];
  }

  // ---- choosing --------------------------------------------------------------------------------------

  async choose(what) {
    try {
      this.setChosen(await this.ask("select", { list: this.list, view: this.name, ...what }, "select"));
      this.view.showError("");
    } catch {
      // shown already; what was chosen stays
    }
  }

  async whereChosen() {
    if (this.list) this.setChosen(await this.ask("places", { list: this.list }, "places"));
  }

  setChosen({ chosen, all, same, places }) {
    this.tree.setChosen({ places: new Set(places), all, same });
    const found = this.listed ? countText(this.listed.series, "series", "series") : "";
    if (all) this.told.textContent = same ? `All ${found} found are selected` : "All that an earlier search found are selected";
    else {
      const hidden = chosen - places.length;
      this.told.textContent = chosen ? `${countText(chosen, "series", "series")} selected${hidden > 0 ? `, ${hidden} not in this list` : ""}` : "Nothing selected";
    }
    this.chosen = all ? (this.listed?.series ?? 0) : chosen;
    this.noneButton.disabled = !all && !chosen;
    this.followCursor();
    this.view.root.dataset.chosen = all ? "all" : String(chosen);
  }

  // ---- one series ------------------------------------------------------------------------------------

  focused(level, row) {
    this.focus = { level, row };
    this.followCursor();
    this.follow();
  }

  /** A series can be shown where one is selected or under the cursor. */
  followCursor() {
    const under = this.focus.level === "series" && Boolean(this.focus.row);
    this.viewButton.disabled = this.otherButton.disabled = !this.chosen && !under;
  }

  /** Show what is selected, else the series under the cursor. */
  showChosen() {
    return this.chosen ? this.openWhat({ chosen: 0 }, false) : this.open(this.focus.row, false);
  }

  /** Show the first two selected; of one alone, beside what is shown. */
  async compareChosen() {
    if (!this.chosen) return this.open(this.focus.row, true);
    if (this.chosen > 1) await this.openWhat({ chosen: 0 }, false);
    return this.openWhat({ chosen: this.chosen > 1 ? 1 : 0 }, true);
  }

  open(row, other) {
    return this.canView ? this.openWhat({ id: row.id }, other) : this.side.show("details");
  }

  /** what: the id of a series, or its number among those selected. */
  async openWhat(what, other) {
    this.view.announce("Opening the series");
    await this.ask("view", { ...what, other: Boolean(other) }, null).catch(() => null);
  }

  /** Fill the tab that is shown, for the series under the cursor. */
  async fillSide() {
    const tab = this.side.shown;
    if (tab === "problems") return this.fillProblems();
    const { level, row } = this.focus;
    if (!row) return this.emptySide();
    if (tab === "tags") return this.tags.about?.id === row.id ? undefined : this.tags.show({ id: row.id });
    if (this.filled === `${tab}-${level}-${row.id}`) return undefined;
    try {
      const data = await this.ask("details", { id: row.id }, "details", true);
      if (this.focus.row !== row) return undefined; // moved on meanwhile
      this.filled = `${tab}-${level}-${row.id}`;
      if (tab === "documents") this.documents.show(data.documents, level === "series" ? row.id : null);
      else this.details.replaceChildren(...this.headed(level, row, data));
      this.side.node.dataset.shown = `${tab}-${row.id}`;
    } catch (failure) {
      this.failed(failure);
    }
    return undefined;
  }

  emptySide() {
    this.details.replaceChildren(el("div", { class: "dl-br-empty" }, "Choose a series to see what it is."));
    this.tags.empty();
    this.documents.empty();
    this.side.node.dataset.shown = "";
  }

  headed(level, row, data) {
    const head = level === "series" ? null : el("p", { class: "dl-muted" }, `The first of ${countText(row.series, "series", "series")} of this ${level === "patients" ? "patient" : "study"}:`);
    return [head, ...detailsInside(data, (condition) => this.search.add(condition))].filter(Boolean);
  }

  async fillProblems() {
    try {
      const data = await this.ask("problems", {}, "problems", true);
      this.problems.replaceChildren(...problemsInside(data, (uid) => this.search.set(uid)).filter(Boolean));
      this.side.node.dataset.shown = "problems";
    } catch (failure) {
      this.failed(failure);
    }
  }

  dispose() {
    for (const stop of this.stops) stop();
    this.viewers.dispose();
    this.thumbs.dispose();
    this.documents.clear();
    this.view.dispose();
  }
}

export default {
  render({ model, el: host }) {
    const browser = new LakeBrowser(model, host);
    browser.begin().catch((failure) => browser.failed(failure));
    return () => browser.dispose();
  },
};
