// The legend: which overlays there are, and everything about them that can be changed.

import { el } from "../base/dom.js";
import { COLORMAPS } from "./colormaps.js";
import { UNCOLOURED } from "./overlays_paint.js";

const SEARCHED_FROM = 12; // labels: from so many on there is a search box
const KIND_TITLES = { labels: "Labels", contours: "Contours", isodose: "Isodose", fusion: "Fused image" };
const STYLE_TITLES = { both: "Fill and outline", fill: "Fill", outline: "Outline" };
const BLEND_TITLES = { ramp: "Fade low values", mix: "Even" };

/** {el, follow(), toggleAll()}; it hides itself while there are no overlays. */
export function overlayLegend(viewer, store) {
  const legend = new OverlayLegend(viewer, store);
  legend.follow();
  return legend;
}

class OverlayLegend {
  constructor(viewer, store) {
    Object.assign(this, { viewer, store, cards: new Map(), hidden: [] });
    this.all = el("button", { type: "button", class: "dl-overlay-small", title: "Hide or show all overlays (o)", onclick: () => this.toggleAll() });
    this.list = el("div", { class: "dl-overlay-cards" });
    this.notes = el("ul", { class: "dl-overlay-notes", "aria-label": "What could not be laid over" });
    const head = el("div", { class: "dl-overlay-head" }, el("strong", {}, "Overlays"), this.all);
    this.el = el("section", { class: "dl-overlays", "aria-label": "Overlays" }, head, this.list, this.notes);
  }

  get entries() {
    return this.viewer.get("overlays") || [];
  }

  /** Show what the trait says. */
  follow() {
    const { entries } = this;
    const notes = this.viewer.get("overlay_notes") || [];
    this.el.hidden = !entries.length && !notes.length;
    const known = new Set(entries.map((entry) => entry.id));
    for (const [id, card] of this.cards)
      if (!known.has(id)) {
        card.el.remove();
        this.cards.delete(id);
      }
    entries.forEach((entry, i) => this.cardAt(entry, i, entries.length).follow(entry));
    this.all.textContent = entries.some((entry) => entry.visible) ? "Hide all" : "Show all";
    this.all.hidden = !entries.length;
    if (this.notes.textContent !== notes.join("")) this.notes.replaceChildren(...notes.map((note) => el("li", {}, note)));
    this.notes.hidden = !notes.length;
  }

  cardAt(entry, place, count) {
    if (!this.cards.has(entry.id)) this.cards.set(entry.id, new OverlayCard(this, entry, count <= 2));
    const card = this.cards.get(entry.id);
    if (this.list.children[place] !== card.el) this.list.insertBefore(card.el, this.list.children[place] || null);
    return card;
  }

  /** Change one overlay. save: false while a slider moves. */
  change(id, changes, save = true) {
    const overlays = this.entries.map((entry) => (entry.id === id ? { ...entry, ...changes } : entry));
    if (save) this.viewer.set({ overlays });
    else this.viewer.hold({ overlays });
  }

  toggleAll() {
    const { entries } = this;
    if (!entries.length) return false;
    const shown = entries.filter((entry) => entry.visible).map((entry) => entry.id);
    const back = this.hidden.length ? this.hidden : entries.map((entry) => entry.id);
    this.hidden = shown;
    this.viewer.set({ overlays: entries.map((entry) => ({ ...entry, visible: !shown.length && back.includes(entry.id) })) });
    this.viewer.announce(shown.length ? "Overlays hidden" : "Overlays shown");
    return true;
  }
}

class OverlayCard {
  constructor(legend, entry, open) {
    Object.assign(this, { legend, id: entry.id, follows: [], entry });
    this.eye = el("button", { type: "button", class: "dl-overlay-eye", onclick: () => this.toggle() });
    this.title = el("button", { type: "button", class: "dl-overlay-title", "aria-expanded": String(open), onclick: () => this.unfold() });
    this.swatch = el("span", { class: "dl-overlay-swatch", "aria-hidden": "true" });
    this.state = el("span", { class: "dl-overlay-state", role: "status" });
    this.failure = el("div", { class: "dl-overlay-failure" });
    this.body = el("div", { class: "dl-overlay-body", hidden: !open });
    const head = el("div", { class: "dl-overlay-row" }, this.eye, this.swatch, this.title, this.state);
    this.el = el("div", { class: "dl-overlay", role: "group", "data-overlay": entry.id }, head, this.failure, this.body);
    this.fill(entry);
  }

  fill(entry) {
    this.body.append(el("div", { class: "dl-overlay-line" }, this.alpha(), entry.style ? this.style(entry) : null));
    if (entry.note) this.body.append(el("div", { class: "dl-muted" }, entry.note));
    if (entry.kind === "fusion") this.body.append(this.window(), this.colours());
    if (entry.kind === "isodose") this.body.append(levelEditor(this));
    if (entry.kind !== "fusion") this.body.append(labelList(this));
  }

  change(changes, save = true) {
    this.legend.change(this.id, changes, save);
  }

  toggle() {
    const { visible } = this.entry;
    if (!visible) this.legend.store.retry(this.id);
    this.change({ visible: !visible });
    this.legend.viewer.announce(`${this.entry.name} ${visible ? "hidden" : "shown"}`);
  }

  unfold() {
    this.body.hidden = !this.body.hidden;
    this.title.setAttribute("aria-expanded", String(!this.body.hidden));
  }

  follow(entry) {
    this.entry = entry;
    const { labels, name, visible } = entry;
    const shown = labels.filter((label) => label.visible);
    this.el.setAttribute("aria-label", `${KIND_TITLES[entry.kind]}: ${name}`);
    this.el.classList.toggle("dl-overlay-off", !visible);
    this.eye.setAttribute("aria-pressed", String(visible));
    this.eye.setAttribute("aria-label", `Show ${name}`);
    this.eye.title = visible ? "Shown: hide it" : "Hidden: show it";
    this.eye.textContent = visible ? "◉" : "○";
    this.title.textContent = labels.length > 1 ? `${name} (${shown.length}/${labels.length})` : name;
    this.title.title = `${KIND_TITLES[entry.kind]}: ${name}`;
    this.swatch.style.background = swatchOf(entry, shown);
    const { store } = this.legend;
    const state = visible ? store.stateOf(this.id) : "";
    this.state.textContent = { loading: "…", failed: "failed", "": "" }[state];
    this.failure.textContent = visible ? store.failure(this.id) : "";
    this.failure.hidden = !this.failure.textContent;
    for (const follow of this.follows) follow(entry);
  }

  // ---- what can be changed

  alpha() {
    const input = this.slider("Opacity", 0, 1, 0.05, (value, save) => this.change({ alpha: value }, save));
    this.follows.push((entry) => (input.value = String(entry.alpha)));
    return el("label", { class: "dl-overlay-field" }, "Opacity", input);
  }

  /** A slider that saves when it is let go. */
  slider(label, min, max, step, change) {
    const input = el("input", { type: "range", min: String(min), max: String(max), step: String(step), "aria-label": label });
    input.addEventListener("input", () => change(input.valueAsNumber, false));
    input.addEventListener("change", () => this.legend.viewer.release());
    return input;
  }

  choice(label, titles, name) {
    const options = Object.entries(titles).map(([value, text]) => el("option", { value }, text));
    const select = el("select", { "aria-label": label, title: label, onchange: () => this.change({ [name]: select.value }) }, ...options);
    this.follows.push((entry) => (select.value = entry[name]));
    return select;
  }

  style(entry) {
    return entry.kind === "isodose" ? null : this.choice("Fill or outline", STYLE_TITLES, "style");
  }

  /** Lowest and highest value of the window of a fused image. */
  window() {
    const change = (low, high, save) => high > low && this.change({ window: [(low + high) / 2, high - low] }, save);
    const ends = (entry = this.entry) => [entry.window[0] - entry.window[1] / 2, entry.window[0] + entry.window[1] / 2];
    const field = (label, end) => {
      const input = el("input", { type: "number", step: "any", class: "dl-overlay-number", "aria-label": label });
      input.addEventListener("change", () => {
        const now = ends();
        now[end] = input.valueAsNumber;
        if (now.every(Number.isFinite)) change(now[0], now[1], true);
      });
      this.follows.push((entry) => document.activeElement !== input && (input.value = String(Number(ends(entry)[end].toPrecision(4)))));
      return input;
    };
    const top = this.slider("Upper end of the window", 0, 1, 0.005, (part, save) => {
      const [low, high] = this.entry.range;
      change(ends()[0], low + part * (1.5 * high - low), save);
    });
    this.follows.push(({ range: [low, high], ...entry }) => (top.value = String((ends(entry)[1] - low) / (1.5 * high - low))));
    const units = el("span", { class: "dl-muted" }, this.entry.units);
    return el("div", { class: "dl-overlay-line" }, field("Lower end of the window", 0), "–", field("Upper end of the window, as a number", 1), units, top);
  }

  colours() {
    const maps = Object.fromEntries(Object.entries(COLORMAPS).map(([name, map]) => [name, map.safe ? map.title : `${map.title} (not for colour-blind eyes)`]));
    const map = this.choice("Colour map of the fused image", maps, "colormap");
    return el("div", { class: "dl-overlay-line" }, map, this.choice("How it is blended", BLEND_TITLES, "blend"));
  }
}

/** What stands for an overlay: the colours of its first labels, or of its colour map. */
function swatchOf(entry, shown) {
  const colours =
    entry.kind === "fusion"
      ? COLORMAPS[entry.colormap].points.map(([, hex]) => `#${hex}`)
      : (shown.length ? shown : entry.labels).slice(0, 4).map((label) => label.color);
  if (colours.length < 2) return colours[0] || "transparent";
  if (entry.kind === "fusion") return `linear-gradient(90deg, ${colours.join(", ")})`;
  const part = 100 / colours.length;
  return `linear-gradient(90deg, ${colours.map((c, i) => `${c} ${i * part}% ${(i + 1) * part}%`).join(", ")})`;
}

// ---- labels

/** The labels of an overlay: toggles, a search box when there are many, all and none. */
function labelList(card) {
  const list = el("ul", { class: "dl-overlay-labels" });
  const search = el("input", { type: "search", placeholder: "Search labels", "aria-label": "Search labels", class: "dl-overlay-search" });
  const matches = (label) => label.name.toLowerCase().includes(search.value.trim().toLowerCase());
  const seeAll = (visible) => setLabels(card, (label) => (matches(label) ? visible : label.visible));
  const small = (text, title, deed) => el("button", { type: "button", class: "dl-overlay-small", title, onclick: deed }, text);
  const all = small("All", "Show all labels that are listed", () => seeAll(true));
  const none = small("None", "Hide all labels that are listed", () => seeAll(false));
  const head = el("div", { class: "dl-overlay-line" }, search, all, none);
  let rows = [];
  let built = "";
  const follow = (entry) => {
    const now = JSON.stringify(entry.labels.map((label) => [label.value, label.name]));
    if (now !== built) {
      built = now;
      rows = entry.labels.map((label) => labelRow(card, label));
      list.replaceChildren(...rows.map((row) => row.el));
    }
    rows.forEach((row, i) => row.follow(entry.labels[i], matches(entry.labels[i])));
    search.hidden = entry.labels.length < SEARCHED_FROM;
    head.hidden = entry.labels.length < 2;
  };
  search.addEventListener("input", () => follow(card.entry));
  card.follows.push(follow);
  return el("div", {}, head, list);
}

function labelRow(card, { value, name }) {
  const box = el("input", { type: "checkbox", onchange: () => setLabels(card, (label) => (label.value === value ? box.checked : label.visible)) });
  const colour = el("input", { type: "color", class: "dl-overlay-colour", "aria-label": `Colour of ${name}`, title: "Colour" });
  colour.addEventListener("change", () => {
    const labels = card.entry.labels.map((label) => (label.value === value ? { ...label, color: colour.value } : label));
    card.change({ labels });
  });
  const solo = () => setLabels(card, soloOf(card.entry.labels, value));
  const only = el("button", { type: "button", class: "dl-overlay-small dl-overlay-only", title: `Only ${name}, or all again`, onclick: solo }, "only");
  const text = el("span", { class: "dl-overlay-name", title: `${name} (double-click: only this)`, ondblclick: solo }, name);
  const row = el("li", { class: "dl-overlay-label", "data-value": String(value) }, el("label", {}, box, colour, text));
  row.append(card.entry.kind === "isodose" ? dropLevel(card, value, name) : only);
  row.addEventListener("mousedown", (event) => event.detail > 1 && event.preventDefault()); // no text is selected
  return {
    el: row,
    follow(label, listed) {
      box.checked = label.visible;
      box.setAttribute("aria-label", `Show ${label.name}`);
      colour.value = label.color || UNCOLOURED;
      row.hidden = !listed;
    },
  };
}

function dropLevel(card, value, name) {
  const drop = () => card.change({ labels: card.entry.labels.filter((label) => label.value !== value) });
  return el("button", { type: "button", class: "dl-overlay-small", "aria-label": `Remove ${name}`, title: "Remove this level", onclick: drop }, "×");
}

/** Visibility when one label is to be alone; all when it is so already. */
function soloOf(labels, value) {
  const alone = labels.every((label) => label.visible === (label.value === value));
  return (label) => alone || label.value === value;
}

function setLabels(card, visible) {
  const labels = card.entry.labels.map((label) => ({ ...label, visible: visible(label) }));
  card.change({ labels, ...(labels.some((label) => label.visible) ? { visible: true } : {}) });
}

// ---- isodose levels

/** Add a level in Gy or in percent, and say what 100 % is. */
function levelEditor(card) {
  const level = el("input", { type: "number", min: "0", step: "any", class: "dl-overlay-number", "aria-label": "New isodose level", placeholder: "level" });
  const unit = el("select", { "aria-label": "Unit of the new level" }, el("option", { value: "gy" }, "Gy"), el("option", { value: "percent" }, "%"));
  const add = () => {
    const { labels, reference_gy: reference } = card.entry;
    const gy = unit.value === "gy" ? level.valueAsNumber : (level.valueAsNumber / 100) * reference;
    if (!(gy > 0)) return;
    const value = Number(gy.toFixed(4));
    const fresh = { value, name: `${value} Gy`, color: null, visible: true }; // Python names and colours it
    if (!labels.some((label) => label.value === value)) card.change({ labels: [...labels, fresh] });
    level.value = "";
  };
  level.addEventListener("keydown", (event) => event.key === "Enter" && add());
  const reference = el("input", { type: "number", min: "0", step: "any", class: "dl-overlay-number", "aria-label": "Dose in Gy that is 100 %" });
  reference.addEventListener("change", () => rescaleLevels(card, reference.valueAsNumber));
  const word = el("span", { class: "dl-muted" });
  card.follows.push((entry) => {
    if (document.activeElement !== reference) reference.value = String(Number(entry.reference_gy.toPrecision(4)));
    word.textContent = entry.prescribed ? "prescribed" : "maximum";
  });
  const button = el("button", { type: "button", class: "dl-overlay-small", onclick: add }, "Add");
  return el(
    "div",
    { class: "dl-overlay-levels" },
    el("div", { class: "dl-overlay-line" }, level, unit, button),
    el("div", { class: "dl-overlay-line" }, "100 % =", reference, "Gy", word),
  );
}

/** Another dose is 100 %: levels keep their percentages. */
function rescaleLevels(card, gy) {
  const { labels, reference_gy: before } = card.entry;
  if (!(gy > 0) || gy === before) return;
  const scaled = labels.map((label) => ({ ...label, value: Number(((label.value / before) * gy).toFixed(4)) }));
  card.change({ labels: scaled, reference_gy: gy, prescribed: true });
}
