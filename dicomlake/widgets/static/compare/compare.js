// Two to four viewers beside each other, linked in patient millimetres or by their place in the stack.

import { el, frame, keysOf } from "../base/dom.js";
import { linkOf, saver, watchModel } from "../base/link.js";
import { drawViewer } from "../viewer/draw.js";
import { Hub, linkedBy, linkWords } from "./hub.js";
import { RegisterButton } from "./registering.js";

const LINK_NAMES = { auto: "Automatic", mm: "Position in mm", index: "Position in the stack", none: "Not linked", register: "Registered" };
const COMPARE_TRAITS = ["linked", "link", "zoom_linked", "window_linked", "places", "titles", "toolbars"];

class CompareView {
  constructor(model, host) {
    this.model = model;
    this.link = linkOf(model);
    this.saver = saver(model);
    this.frame = frame(host, this.link, model, "Comparison");
    this.hub = new Hub(() => this.state());
    this.drawn = [];
    this.undo = [];
    this.build();
    this.listen();
    this.place();
  }

  state() {
    const get = (name) => this.model.get(name);
    return { linked: get("linked"), link: get("link"), zoom: get("zoom_linked"), window: get("window_linked"), places: get("places") };
  }

  // ---- page

  build() {
    this.frame.root.classList.add("dl-compare");
    this.grid = el("div", { class: "dl-compare-grid" });
    this.frame.root.append(this.bar(), this.grid);
    keysOf(this.frame.root, () => false);
    this.frame.root.addEventListener("keydown", (event) => this.anywhere(event), true);
  }

  bar() {
    this.toggles = {
      linked: this.button("linked", "Linked", "Scroll and point in all images together (Alt L)"),
      zoom_linked: this.button("zoom_linked", "Zoom", "The same scale around the same place"),
      window_linked: this.button("window_linked", "Window", "The same window where modality and units are equal"),
      toolbars: this.button("toolbars", "Tools", "The tool bar of each image; its keys work without"),
    };
    this.choice = el("select", { "aria-label": "How images are linked", onchange: () => this.choose(this.choice.value) });
    for (const [value, name] of Object.entries(LINK_NAMES)) this.choice.append(el("option", { value }, name));
    this.registering = new RegisterButton(this);
    const { linked, zoom_linked: zoom, window_linked: windowed, toolbars } = this.toggles;
    return el("div", { class: "dl-row dl-compare-bar", role: "toolbar", "aria-label": "Linking" }, linked, this.choice, zoom, windowed, this.registering.el, toolbars, this.registering.progress);
  }

  button(trait, text, title) {
    return el("button", { type: "button", title, onclick: () => this.toggle(trait) }, text);
  }

  listen() {
    const names = COMPARE_TRAITS.map((name) => `change:${name}`).join(" ");
    const follow = () => this.follow();
    const places = () => this.hub.align(this.active || 0);
    const viewers = () => this.place();
    this.undo.push(watchModel(this.model, names, follow));
    this.undo.push(watchModel(this.model, "change:places", places), watchModel(this.model, "change:viewers", viewers));
    this.undo.push(this.registering.listen());
    this.follow();
  }

  // ---- viewers

  async place() {
    this.drop();
    const round = (this.round = (this.round || 0) + 1);
    const refs = this.model.get("viewers");
    const models = await Promise.all(refs.map((ref) => this.model.widget_manager.get_model(ref.replace("IPY_MODEL_", ""))));
    if (round !== this.round || this.gone) return;
    this.grid.dataset.count = models.length;
    this.cells = models.map((model, slot) => this.cell(model, slot));
    this.grid.replaceChildren(...this.cells.map((cell) => cell.el));
    this.drawn = models.map((model, slot) => drawViewer({ model, el: this.cells[slot].body, hub: this.hub.slot(slot) }));
    this.follow();
    this.alignSoon(round);
  }

  /** Begin at one place and scale, as soon as the panes have their sizes. */
  alignSoon(round, patience = 60) {
    if (round !== this.round || this.gone) return;
    if (!this.hub.isLaid() && patience > 0) {
      requestAnimationFrame(() => this.alignSoon(round, patience - 1));
      return;
    }
    if (this.hub.isLaid()) this.hub.align(0);
    this.frame.state("ready");
  }

  cell(model, slot) {
    const title = el("strong", { class: "dl-compare-title" });
    const badge = el("span", { class: "dl-compare-badge" });
    const body = el("div", { class: "dl-compare-body" });
    const whole = el("section", { class: "dl-compare-cell", "data-slot": String(slot) }, el("header", { class: "dl-compare-head" }, title, badge), body);
    whole.addEventListener("focusin", () => (this.active = slot));
    whole.addEventListener("pointerdown", () => (this.active = slot));
    return { el: whole, title, badge, body };
  }

  drop() {
    for (const viewer of this.drawn) viewer.dispose();
    this.drawn = [];
    this.cells = [];
  }

  dispose() {
    this.gone = true;
    this.saver.flush();
    this.drop();
    for (const undo of this.undo.splice(0)) undo();
    this.frame.dispose();
  }

  // ---- linking

  /** Alt L works from inside an image, too. */
  anywhere(event) {
    if (!event.altKey || event.code !== "KeyL") return;
    event.preventDefault();
    event.stopPropagation();
    this.toggle("linked");
  }

  toggle(trait) {
    this.saver.set({ [trait]: !this.model.get(trait) });
    const from = this.active || 0;
    if (this.model.get(trait) && trait === "window_linked") this.hub.share(from);
    else if (this.model.get(trait) && trait !== "toolbars") this.hub.align(from);
    this.frame.announce(`${this.toggles[trait].textContent} ${this.model.get(trait) ? "on" : "off"}`);
    return true;
  }

  choose(link) {
    this.saver.set({ link, linked: link !== "none" });
    this.hub.align(this.active || 0);
  }

  /** Show what the traits say. */
  follow() {
    const state = this.state();
    for (const [trait, button] of Object.entries(this.toggles)) button.setAttribute("aria-pressed", String(Boolean(this.model.get(trait))));
    this.choice.value = state.link;
    this.grid.classList.toggle("dl-compare-bare", !this.model.get("toolbars"));
    const titles = this.model.get("titles");
    (this.cells || []).forEach((cell, slot) => {
      cell.title.textContent = titles[slot] || `Image ${slot + 1}`;
      cell.body.setAttribute("aria-label", cell.title.textContent);
      this.showBadge(cell.badge, state, slot);
    });
  }

  showBadge(badge, state, slot) {
    badge.textContent = slot === 0 ? "reference" : linkWords(state, 0, slot);
    badge.dataset.how = slot === 0 ? "reference" : linkedBy(state, 0, slot) || "none";
  }
}

function renderCompare({ model, el: host }) {
  const view = new CompareView(model, host);
  return () => view.dispose();
}

export default { render: renderCompare };
