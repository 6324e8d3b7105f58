// A patient's studies one at a time; place, zoom and window go along.

import { el, frame, keysOf } from "../base/dom.js";
import { linkOf, saver } from "../base/link.js";
import { drawViewer } from "../viewer/draw.js";
import { shareWindow } from "./hub.js";
import { RegisterButton } from "./registering.js";
import { mmBetween, sameSpace, stackPosition, viewBetween } from "./places.js";
import { dayWords, TimeAxis } from "./timeaxis.js";

const CARRIED_TRAITS = ["arrangement", "tool", "slab_mm", "slab_mode", "crosshair", "interpolate"];

class TimelineView {
  constructor(model, host) {
    this.model = model;
    this.link = linkOf(model);
    this.saver = saver(model);
    this.frame = frame(host, this.link, model, "Timeline of studies");
    this.undo = [];
    this.shown = null; // {study, series, viewer}
    this.build();
    this.listen();
    this.go(model.get("at"));
  }

  // ---- page

  build() {
    const { root } = this.frame;
    root.classList.add("dl-timeline");
    this.axis = new TimeAxis(this.model.get("studies"), (study) => this.go(study));
    this.title = el("strong", { class: "dl-timeline-title" });
    this.badge = el("span", { class: "dl-compare-badge" });
    this.series = el("select", { "aria-label": "Series of the study", onchange: () => this.go(this.model.get("at"), Number(this.series.value)) });
    this.registering = new RegisterButton(this);
    this.place = this.toggle("keep_place", "Keep place", "Place and zoom go along from study to study");
    this.window = this.toggle("keep_window", "Keep window", "The window goes along where modality and units are equal");
    const earlier = el("button", { type: "button", "aria-label": "Earlier study", title: "Earlier study (Alt ←)", onclick: () => this.step(-1) }, "‹");
    const later = el("button", { type: "button", "aria-label": "Later study", title: "Later study (Alt →)", onclick: () => this.step(1) }, "›");
    this.body = el("div", { class: "dl-timeline-body" });
    const bar = el("div", { class: "dl-row dl-timeline-bar" }, earlier, later, this.title, this.series, this.badge, this.place, this.window, this.registering.el, this.registering.progress);
    root.append(bar, el("div", { class: "dl-timeline-axis" }, this.axis.el), this.body);
    keysOf(root, (event) => event.target === this.axis.el && this.key(event));
    root.addEventListener("keydown", (event) => this.anywhere(event), true);
  }

  toggle(trait, text, title) {
    const button = el("button", { type: "button", title, onclick: () => this.saver.set({ [trait]: !this.model.get(trait) }) }, text);
    const follow = () => button.setAttribute("aria-pressed", String(this.model.get(trait)));
    this.model.on(`change:${trait}`, follow);
    this.undo.push(() => this.model.off(`change:${trait}`, follow));
    follow();
    return button;
  }

  listen() {
    const at = () => this.shown?.study !== this.model.get("at") && this.go(this.model.get("at"));
    this.model.on("change:at", at);
    this.undo.push(() => this.model.off("change:at", at), this.link.on("places", (places) => this.placed(places)));
    this.undo.push(this.registering.listen());
  }

  dispose() {
    this.gone = true;
    this.saver.flush();
    this.shown?.viewer.dispose();
    for (const undo of this.undo.splice(0)) undo();
    this.frame.dispose();
  }

  // ---- keys

  key(event) {
    const last = this.model.get("studies").length - 1;
    const to = { Home: 0, End: last }[event.key];
    if (to !== undefined) return this.go(to), true;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    return step !== undefined && this.step(step);
  }

  /** Alt with an arrow works from inside the image, too. */
  anywhere(event) {
    const step = event.altKey && { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.step(step);
  }

  step(by) {
    const now = this.going ?? this.shown?.study ?? this.model.get("at");
    const next = Math.max(0, Math.min(this.model.get("studies").length - 1, now + by));
    if (next !== now) this.go(next);
    return true;
  }

  // ---- from study to study

  async go(study, series = undefined) {
    this.going = study;
    this.axis.show(study);
    this.frame.state("loading");
    try {
      const args = series === undefined ? { study } : { study, series };
      const { data } = await this.link.ask("open", args, { key: "open" });
      const model = await this.model.widget_manager.get_model(data.model.replace("IPY_MODEL_", ""));
      if (this.gone || this.going !== study) return;
      this.frame.showError("");
      this.show(study, data, model);
    } catch (failure) {
      if (this.going === study) this.failed(failure);
    }
  }

  failed(failure) {
    this.going = null;
    this.frame.showError(failure.message);
    if (this.shown) this.axis.show(this.shown.study);
    this.frame.state("ready");
  }

  show(study, data, model) {
    const before = this.shown && this.snapshot();
    const focused = this.body.contains(document.activeElement);
    this.shown?.viewer.dispose();
    if (before) this.carryTraits(before, model);
    this.shown = { study, series: data.series, viewer: drawViewer({ model, el: this.body, hub: null }) };
    this.going = null;
    this.places = data.places;
    if (before) this.carry(before);
    if (focused) this.body.querySelector("canvas")?.focus({ preventScroll: true });
    this.caption(study, data, before);
    this.frame.state("ready");
  }

  /** What goes along from what is shown now. */
  snapshot() {
    const { viewer, series } = this.shown;
    const traits = Object.fromEntries(CARRIED_TRAITS.map((name) => [name, viewer.get(name)]));
    const looks = Object.fromEntries(["window", "preset", "voi_shape"].map((name) => [name, viewer.get(name)]));
    const views = Object.fromEntries(
      viewer.panes
        .filter((pane) => pane.name !== "oblique" && pane.width)
        .map((pane) => [pane.name, { plane: pane.meta, view: pane.view, number: pane.number || 0, width: pane.width, height: pane.height }]),
    );
    const placed = Object.values(viewer.meta.planes).some((plane) => plane.to_lps);
    const mm = placed ? viewer.mm() : null;
    return { series, meta: viewer.meta, mm, index: viewer.get("index"), plane: viewer.get("plane"), looks, traits, views };
  }

  /** What must be so before the panes are laid. */
  carryTraits(before, model) {
    const { planes } = model.get("stack");
    const three = ["axial", "coronal", "sagittal"].every((name) => planes[name]);
    const set = {};
    for (const [name, value] of Object.entries(before.traits)) if (value !== undefined && (name !== "arrangement" || three)) set[name] = value;
    if (planes[before.plane]) set.plane = before.plane;
    for (const [name, value] of Object.entries(set)) model.set(name, value);
  }

  carry(before) {
    const { viewer, series } = this.shown;
    const [from, to] = [this.places[before.series], this.places[series]];
    const together = sameSpace(from, to);
    const move = together ? (mm) => mmBetween(from, to, mm) : null;
    if (this.model.get("keep_place")) {
      if (move && before.mm) viewer.goToMm(move(before.mm));
      else this.carryNumbers(before, viewer);
      this.carryViews(before, viewer, move);
    }
    const kept = { get: (name) => before.looks[name], meta: before.meta };
    if (this.model.get("keep_window")) shareWindow(kept, viewer.member, before.looks.window);
  }

  /** The same relative place along each axis; the main plane last, so that its number is exact. */
  carryNumbers(before, viewer) {
    const others = ["axial", "coronal", "sagittal"].filter((name) => name !== before.plane);
    for (const name of [...others, before.plane]) {
      const found = stackPosition(before.meta, viewer.meta, name, before.index);
      if (found) viewer.member.goToIndex(found.plane, found.number);
    }
  }

  carryViews(before, viewer, move) {
    for (const [name, from] of Object.entries(before.views)) {
      const plane = viewer.meta.planes[name];
      if (!plane) continue;
      const view = { ...from.view };
      viewer.member.setView(name, { ...view, ...viewBetween(from, { plane, view, width: from.width, height: from.height }, move) });
    }
  }

  // ---- what is said

  caption(study, data, before) {
    const studies = this.model.get("studies");
    const words = `${dayWords(studies[study].day)} · study ${study + 1} of ${studies.length}`;
    this.title.textContent = words;
    this.series.replaceChildren(...data.choices.map((one) => el("option", { value: String(one.series) }, one.text)));
    this.series.value = String(data.series);
    this.series.hidden = data.choices.length < 2;
    this.came = before ? before.series : null;
    this.placed();
    this.frame.announce(`${words}, ${this.badge.textContent}`);
  }

  /** How what is shown lies to what was shown before. */
  placed(places = {}) {
    this.places = { ...this.places, ...places };
    const from = this.came === null || this.came === undefined ? null : this.places[this.came];
    const to = this.shown && this.places[this.shown.series];
    this.badge.hidden = !from || !to;
    if (this.badge.hidden) return;
    const together = sameSpace(from, to);
    const registered = [to, from].find((place) => place.how === "registered");
    this.badge.textContent = together ? (registered || to).detail || "same frame of reference" : "by position in the stack";
    this.badge.dataset.how = together ? "mm" : "index";
  }

}

function renderTimeline({ model, el: host }) {
  const view = new TimelineView(model, host);
  return () => view.dispose();
}

export default { render: renderTimeline };
