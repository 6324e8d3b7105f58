// The cohort explorer: counts, the query, facets and the table, all of one query that Python holds.

import { linkOf, watchModel } from "../base/link.js";
import { el, frame, keysOf } from "../base/dom.js";
import { hosted } from "../base/hosted.js";
import { ExColumns } from "./columns.js";
import { ExHistogram } from "./histogram.js";
import { exExplanation, exKeeping, exMissing } from "./panels.js";
import { exPicker } from "./picker.js";
import { ExTable } from "./table.js";
import { ExValues } from "./values.js";
import { exCount, exNumber, exWords } from "./words.js";

let exApps = 0;

class ExApp {
  constructor(model, host) {
    this.model = model;
    this.id = `ex${++exApps}`;
    this.link = linkOf(model);
    this.view = frame(host, this.link, model, "Cohort explorer");
    this.view.root.classList.add("dl-ex-root");
    this.state = null;
    this.busy = 0;
    this.cards = new Map();
    this.listeners = [];
    this.table = new ExTable(this);
    this.build();
    this.listen();
    this.send("state");
  }

  // ---- the page

  build() {
    const button = (label, title, onclick, more = {}) => el("button", { title, "aria-label": title, onclick, ...more }, label);
    this.sizes = el("div", { class: "dl-ex-sizes", "data-busy": "false" }, "counting …");
    this.undo = button("↶", "Undo (Ctrl+Z)", () => this.send("undo"));
    this.redo = button("↷", "Redo (Ctrl+Y)", () => this.send("redo"));
    const can = this.model.get("can") || {};
    this.keeping = exKeeping(this, can.freeze);
    const actions = [
      this.undo,
      this.redo,
      el("button", { class: "dl-ex-save", onclick: () => this.keeping.open() }, "Save cohort"),
      can.share ? el("button", { class: "dl-ex-share", onclick: () => this.call("share") }, "Share") : null,
      can.sheet ? el("button", { class: "dl-ex-sheet", onclick: () => this.call("sheet") }, "Contact sheet") : null,
      can.view ? el("button", { class: "dl-ex-open", onclick: () => this.call("view") }, "View") : null,
    ];
    this.box = el("input", {
      class: "dl-ex-query", "aria-label": "Query", spellcheck: "false", autocomplete: "off",
      placeholder: "Modality=CT SliceThickness=(0, 1.5)   conditions side by side must all hold",
    });
    this.box.addEventListener("keydown", (event) => this.queryKey(event));
    this.chips = el("div", { class: "dl-ex-chips", role: "list", "aria-label": "Conditions" });
    this.grid = el("div", { class: "dl-ex-facets" });
    this.tabs = this.makeTabs();
    this.panel = el("div", { class: "dl-ex-panel" }, this.table.node);
    this.told = el("output", { class: "dl-ex-told" });
    this.shown = hosted(this.model, ["viewer"], () => this.quiet("unview", {}), (failure) => this.view.showError(failure.message));
    this.view.root.append(
      el("div", { class: "dl-ex-top" }, this.sizes, el("div", { class: "dl-row" }, ...actions)),
      this.keeping,
      el("div", { class: "dl-ex-ask" }, this.box, el("button", { class: "dl-ex-run", onclick: () => this.askBox() }, "Find")),
      this.chips,
      this.grid,
      this.tabs,
      this.panel,
      this.told,
      this.shown.node,
    );
    keysOf(this.view.root, (event) => this.key(event));
  }

  makeTabs() {
    const names = (text) => this.quiet("names", { text }, "names").then((found) => (found ? found.names : []));
    this.tab = "table";
    this.buttons = {
      table: el("button", { "aria-pressed": "true", onclick: () => this.showTab("table") }, "Series"),
      missing: el("button", { "aria-pressed": "false", onclick: () => this.showTab("missing") }, "Missing values"),
    };
    this.columns = new ExColumns(this, names);
    return el(
      "div",
      { class: "dl-ex-tabs" },
      el(
        "div",
        { class: "dl-row" },
        this.buttons.table,
        this.buttons.missing,
        this.columns.button,
        el("span", { class: "dl-ex-grow" }),
        exPicker({ label: "Add facet", ask: names, onPick: (name) => this.setFacets([...this.model.get("facets"), name]) }),
      ),
      this.columns.node,
    );
  }

  listen() {
    const on = (names, work) => this.listeners.push(watchModel(this.model, names, work));
    on("change:asked change:facets", () => this.moved());
    on("change:columns", () => this.model.get("columns").join() !== this.shownColumns && this.moved(true));
    on("change:selected_ids", () => this.table.redraw());
    this.theme = new MutationObserver(() => this.cards.forEach(({ body }) => body.redraw && body.redraw()));
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "style", "class"] });
  }

  /** Python changed something: show it, unless it is the echo of what this page asked for. */
  moved(always = false) {
    if (this.busy || !this.state) return;
    const facets = this.state.facets.map((one) => one.name).join();
    if (always || this.model.get("asked") !== this.state.asked || this.model.get("facets").join() !== facets) this.send("state");
  }

  settings() {
    return { columns: this.model.get("columns"), sort: this.model.get("sort"), descending: this.model.get("descending") };
  }

  // ---- asking

  /** One ask; its failure is shown, and gives null. */
  async ask(name, args = {}, key = null) {
    try {
      return await this.link.ask(name, args, { key });
    } catch (failure) {
      this.view.showError(failure.message);
      return null;
    }
  }

  /** The data of an ask beside the query. */
  async quiet(name, args, key) {
    const answer = await this.ask(name, args, key);
    return answer && answer.data;
  }

  /** An ask that moves the query, answered with all there is to show. */
  async send(name, args = {}) {
    this.busy += 1;
    this.sizes.dataset.busy = "true";
    const answer = await this.ask(name, args);
    this.busy -= 1;
    if (this.busy) return null;
    this.sizes.dataset.busy = "false";
    if (!answer) {
      if (this.state) this.preview(null), this.redrawFacets();
      return null;
    }
    this.view.showError("");
    this.show(answer.data);
    return answer.data;
  }

  async askBox() {
    const found = await this.send("ask", { text: this.box.value });
    this.box.setAttribute("aria-invalid", String(!found));
  }

  /** What a button does; Python's callback may say something. */
  async call(what) {
    if (!(this.model.get("can") || {})[what]) return;
    this.told.textContent = "";
    const answer = await this.ask("call", { what }, `call-${what}`);
    if (answer) this.view.showError("");
    this.told.textContent = answer ? answer.data.told : "";
  }

  // ---- showing

  show(data) {
    const within = this.view.root.contains(document.activeElement);
    const chip = [...this.chips.children].findIndex((one) => one.contains(document.activeElement));
    this.state = data;
    if (document.activeElement !== this.box || this.box.value.trim() === "" || data.query) this.box.value = data.query;
    this.box.setAttribute("aria-invalid", "false");
    this.undo.disabled = !data.undo;
    this.redo.disabled = !data.redo;
    this.drawSizes(data.sizes);
    this.drawChips(data.terms);
    this.drawFacets(data.facets);
    this.shownColumns = this.model.get("columns").join();
    this.table.show(data.page);
    this.columns.draw();
    this.drawPanel();
    this.view.state("ready");
    this.view.root.dataset.query = data.query;
    this.view.root.dataset.revision = String(Number(this.view.root.dataset.revision || 0) + 1);
    this.view.announce(this.toldOf(data.sizes));
    if (within && !this.view.root.contains(document.activeElement)) this.refocus(chip);
  }

  /** Where the keyboard goes when what had it is gone: the next condition, else the query. */
  refocus(chip) {
    const next = chip >= 0 && this.chips.children[Math.min(chip, this.chips.children.length - 1)];
    ((next && next.querySelector("button")) || this.box).focus();
  }

  toldOf({ series, studies, patients }, about = "") {
    const words = [[series, "series", "series", ""], [studies, "study", "studies", about], [patients, "patient", "patients", about]];
    return words.map(([count, one, many, sign]) => exCount(count, one, many, sign)).join(" · ");
  }

  drawSizes(sizes, about = "") {
    const of = sizes.series < sizes.of ? ` of ${exNumber(sizes.of)} series` : "";
    this.sizes.replaceChildren(el("strong", {}, this.toldOf(sizes, about)), el("span", { class: "dl-muted" }, of));
  }

  drawChips(terms) {
    const chips = terms.map(({ text }, place) =>
      el(
        "span",
        { class: "dl-ex-chip", role: "listitem" },
        el("code", {}, text),
        el("button", { title: `Drop ${text}`, "aria-label": `Drop ${text}`, onclick: () => this.send("drop", { place }) }, "×"),
      ),
    );
    if (terms.length > 1) chips.push(el("button", { class: "dl-ex-clear", onclick: () => this.send("drop", { place: -1 }) }, "Clear all"));
    this.chips.replaceChildren(...chips);
    this.chips.hidden = !terms.length;
  }

  drawFacets(found) {
    const names = found.map((one) => one.name);
    for (const [name, card] of this.cards)
      if (!names.includes(name) || card.kind !== found.find((one) => one.name === name).kind) this.dropCard(name);
    for (const data of found) {
      if (!this.cards.has(data.name)) this.cards.set(data.name, this.makeCard(data));
      const card = this.cards.get(data.name);
      card.body.show(data);
      card.note.textContent = card.body.note();
      card.node.classList.toggle("dl-ex-asked", data.asked);
      card.node.dataset.asked = String(data.asked);
      if (data.asked && !data.byHand) card.note.textContent = "set in the query";
      card.clear.hidden = !data.asked;
    }
    const nodes = names.map((name) => this.cards.get(name).node);
    if (nodes.some((node, i) => this.grid.children[i] !== node) || this.grid.children.length !== nodes.length) this.grid.replaceChildren(...nodes);
  }

  redrawFacets() {
    this.drawFacets(this.state.facets);
  }

  makeCard({ name, kind }) {
    const body = kind === "text" ? new ExValues(this, name) : new ExHistogram(this, name);
    const note = el("span", { class: "dl-ex-note dl-muted" });
    const small = (text, title, onclick) => el("button", { class: "dl-ex-small", title, "aria-label": title, onclick }, text);
    const clear = small("clear", `Clear what is chosen in ${name}`, () =>
      kind === "text" ? this.clearValues(name) : this.send("brush", { facet: name, bins: null, missing: false }),
    );
    const node = el(
      "section",
      { class: "dl-ex-facet", "aria-label": name, "data-facet": name },
      el(
        "header",
        {},
        el("h3", { title: name }, exWords(name)),
        note,
        clear,
        kind === "text" ? small("⌕", `Search values of ${name}`, () => body.toggleSearch()) : null,
        small("×", `Remove the facet ${name}`, () => this.setFacets(this.model.get("facets").filter((one) => one !== name))),
      ),
      body.node,
    );
    return { node, body, note, kind, clear };
  }

  clearValues(name) {
    const path = this.state.facets.find((one) => one.name === name).path;
    const kept = this.state.terms.filter(({ paths }) => !(paths.length === 1 && paths[0] === path));
    const place = this.state.terms.findIndex((term) => !kept.includes(term));
    if (place >= 0) this.send("drop", { place });
  }

  dropCard(name) {
    const { body, node } = this.cards.get(name);
    if (body.dispose) body.dispose();
    node.remove();
    this.cards.delete(name);
  }

  /** Counts under a brush that is being dragged; null shows again what Python counted. */
  preview(cube, span, missing) {
    if (cube === null) {
      for (const { body } of this.cards.values()) body.preview(null);
      this.drawSizes(this.state.sizes);
      return;
    }
    const under = cube.under(span, missing);
    for (const [name, counts] of under.facets) this.cards.get(name)?.body.preview(counts);
    const { sizes } = this.state;
    const part = sizes.series ? under.series / sizes.series : 0;
    const about = (count) => Math.min(Math.max(Math.round(count * part), under.series ? 1 : 0), under.series);
    const guess = { series: under.series, studies: about(sizes.studies), patients: about(sizes.patients), of: sizes.of };
    this.drawSizes(guess, "~");
  }

  // ---- below the facets

  showTab(tab) {
    this.tab = tab;
    for (const [name, button] of Object.entries(this.buttons)) button.setAttribute("aria-pressed", String(name === tab));
    this.drawPanel();
  }

  async drawPanel() {
    const query = this.state.query;
    if (this.tab === "missing" && this.state.sizes.series) {
      await this.showMissing(this.by);
      return;
    }
    if (this.state.sizes.series || !this.state.terms.length) {
      this.panel.replaceChildren(this.table.node);
      this.table.redraw();
      return;
    }
    this.panel.replaceChildren(el("p", { class: "dl-muted" }, "No series. Looking for the reason …"));
    const why = await this.quiet("explain", {}, "explain");
    if (why && this.state.query === query) this.panel.replaceChildren(exExplanation(this, why));
  }

  async showMissing(by) {
    const choices = this.state.facets.filter((one) => one.kind === "text").map((one) => one.name);
    this.by = choices.includes(by) ? by : choices[0];
    if (!this.by) {
      this.panel.replaceChildren(el("p", { class: "dl-muted" }, "Add a facet of text, such as Modality, to compare groups."));
      return;
    }
    const query = this.state.query;
    const found = await this.quiet("missing", { by: this.by }, "missing");
    if (found && this.tab === "missing" && this.state.query === query) this.panel.replaceChildren(exMissing(this, found, choices));
  }

  async setFacets(names) {
    const found = await this.send("facets", { names: [...new Set(names)] });
    const added = found && names.at(-1);
    if (added && this.cards.has(added)) this.cards.get(added).node.scrollIntoView({ block: "nearest" });
  }

  // ---- marked rows

  selected() {
    return new Set(this.model.get("selected_ids") || []);
  }

  select(ids) {
    this.model.set("selected_ids", ids);
    this.model.save_changes();
    this.view.announce(`${exCount(ids.length, "series", "series")} marked`);
  }

  // ---- keys

  queryKey(event) {
    if (event.key === "Enter") this.askBox();
    else if (event.key === "Escape") this.box.value = this.state.query;
    else return;
    event.preventDefault();
  }

  key(event) {
    const ctrl = event.ctrlKey || event.metaKey;
    if (event.key === "Escape") for (const { body } of this.cards.values()) body.drag && body.cancel();
    if (ctrl && event.key.toLowerCase() === "z") this.send(event.shiftKey ? "redo" : "undo");
    else if (ctrl && event.key.toLowerCase() === "y") this.send("redo");
    else return false;
    return true;
  }

  dispose() {
    for (const stop of this.listeners) stop();
    for (const name of [...this.cards.keys()]) this.dropCard(name);
    this.theme.disconnect();
    this.table.dispose();
    this.shown.dispose();
    this.view.dispose();
  }
}

export default {
  render({ model, el: host }) {
    const app = new ExApp(model, host);
    return () => app.dispose();
  },
};
