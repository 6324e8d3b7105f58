// What links viewers that stand beside each other: place, zoom and window. All in the browser, no messages.

import { settled } from "../base/dom.js";
import { mmBetween, sameSpace, stackPosition, viewBetween } from "./places.js";

/** In words, how the images at two places are linked. state: {linked, link, places}. */
export function linkWords(state, a, b) {
  const by = linkedBy(state, a, b);
  if (by === "mm") return state.places[b].detail || "same frame of reference";
  if (by === "index") return "by position in the stack";
  return state.linked && state.link !== "none" ? "not linked: no common space" : "not linked";
}

/** "mm", "index" or null: how moves go from one image to the other. */
export function linkedBy({ linked, link, places }, a, b) {
  if (!linked || link === "none") return null;
  if (link !== "index" && sameSpace(places[a], places[b])) return "mm";
  return link === "auto" || link === "index" ? "index" : null;
}

export class Hub {
  /** state() -> {linked, link, zoom, window, places}. */
  constructor(state) {
    this.state = state;
    this.members = new Map(); // slot -> member
    this.known = new Map(); // slot -> the index that the others know of
  }

  /** What the viewer of one slot is given as its hub. */
  slot(number) {
    return {
      join: (member) => this.join(number, member),
      moved: (member, move) => this.moved(number, member, move),
      windowed: (member, window) => this.windowed(number, member, window),
      zoomed: (member, view) => this.zoomed(number, member, view),
    };
  }

  /** A member moves by hand, of which it tells, or by Python, which only its model shows. */
  join(number, member) {
    const { model } = member.viewer;
    const follow = settled(() => this.catchUp(number), 80);
    this.members.set(number, member);
    this.know(number, member);
    model.on("change:index", follow);
    return () => {
      model.off("change:index", follow);
      this.members.delete(number);
    };
  }

  know(number, member) {
    this.known.set(number, member.viewer.get("index").join());
  }

  catchUp(number) {
    const member = this.members.get(number);
    if (!member || this.known.get(number) === member.viewer.get("index").join()) return;
    this.follow(number, member);
  }

  /** Bring the others to where a member is. */
  follow(number, member) {
    const { viewer } = member;
    const placed = this.state().places[number]?.space !== null;
    this.moved(number, member, { mm: placed ? viewer.mm() : null, index: viewer.get("index"), plane: viewer.get("plane") });
  }

  others(number) {
    return [...this.members].filter(([slot]) => slot !== number);
  }

  moved(number, member, { mm, index, plane }) {
    const state = this.state();
    this.know(number, member);
    for (const [slot, other] of this.others(number)) {
      const by = linkedBy(state, number, slot);
      if (by === "mm" && mm) other.goToMm(mmBetween(state.places[number], state.places[slot], mm));
      else if (by === "index") hubFollow(member, other, plane, index);
      this.know(slot, other);
    }
  }

  windowed(number, member, window) {
    if (!this.state().window) return;
    for (const [, other] of this.others(number)) shareWindow(member.viewer, other, window);
  }

  zoomed(number, member, { pane: name, zoom, pan }) {
    const state = this.state();
    const pane = member.viewer.panes.find((one) => one.name === name);
    if (!state.zoom || !pane) return;
    const from = { plane: pane.meta, view: { ...pane.view, zoom, pan }, number: pane.number || 0, ...hubPaneSize(pane) };
    for (const [slot, other] of this.others(number)) {
      const target = other.viewer.panes.find((one) => one.name === name);
      const by = linkedBy(state, number, slot);
      if (!target || !by) continue;
      const move = by === "mm" ? (mm) => mmBetween(state.places[number], state.places[slot], mm) : null;
      other.setView(name, viewBetween(from, { plane: target.meta, view: target.view, ...hubPaneSize(target) }, move));
    }
  }

  /** Give all the window of one. */
  share(number) {
    const member = this.members.get(number);
    if (member) this.windowed(number, member, member.viewer.get("window"));
  }

  /** Bring all to the place and zoom of one. */
  align(number) {
    const member = this.members.get(number);
    if (!member) return;
    this.follow(number, member);
    for (const pane of member.viewer.panes) if (pane.name !== "oblique") this.zoomed(number, member, { pane: pane.name, ...pane.view });
  }

  /** Whether all panes know how large they are. */
  isLaid() {
    return [...this.members.values()].every((member) => member.viewer.panes.every((pane) => pane.width > 1));
  }
}

/** Give a window to a member where it means the same; as a preset where it has the same one. from: a viewer's get. */
export function shareWindow({ get, meta }, member, window) {
  const { viewer } = member;
  if (!sameScale(meta, member.meta) || String(viewer.get("window")) === String(window)) return;
  const [preset, shape] = [get("preset"), get("voi_shape")];
  const same = (p) => p.name === preset && p.shape === shape && p.center === window[0] && p.width === window[1];
  if (member.meta.presets.some(same)) viewer.set({ window: [...window], preset, voi_shape: shape });
  else member.setWindow([...window]);
}

/** Whether a window of one means the same in the other. */
export const sameScale = (a, b) => a.modality === b.modality && a.units === b.units && !a.colour && !b.colour;

function hubFollow(member, other, plane, index) {
  const name = plane && member.meta.planes[plane] ? plane : member.viewer.get("plane");
  const found = stackPosition(member.meta, other.meta, name, index);
  if (found) other.goToIndex(found.plane, found.number);
}

const hubPaneSize = (pane) => ({ width: pane.width || 1, height: pane.height || 1 });
