// What links viewers that stand beside each other: place, zoom and window. All in the browser, no messages.

import { PLAIN_VIEW } from "../viewer/geometry.js";
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
  }

  /** What the viewer of one slot is given as its hub. */
  slot(number) {
    return {
      join: (member) => {
        this.members.set(number, member);
        return () => this.members.delete(number);
      },
      moved: (member, move) => this.moved(number, member, move),
      windowed: (member, window) => this.windowed(number, member, window),
      zoomed: (member, view) => this.zoomed(number, member, view),
    };
  }

  others(number) {
    return [...this.members].filter(([slot]) => slot !== number);
  }

  moved(number, member, { mm, index, plane }) {
    const state = this.state();
    for (const [slot, other] of this.others(number)) {
      const by = linkedBy(state, number, slot);
      if (by === "mm" && mm) other.goToMm(mmBetween(state.places[number], state.places[slot], mm));
      else if (by === "index") hubFollow(member, other, plane, index);
    }
  }

  windowed(number, member, window) {
    if (!this.state().window) return;
    for (const [, other] of this.others(number)) if (sameScale(member.meta, other.meta)) other.setWindow([...window]);
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

  /** Bring all to the place, zoom and window of one; after they were linked again. */
  gather(number) {
    const member = this.members.get(number);
    if (!member) return;
    const { viewer } = member;
    const affine = Object.values(member.meta.planes).some((plane) => plane.to_lps);
    this.moved(number, member, { mm: affine ? viewer.mm() : null, index: viewer.get("index"), plane: viewer.get("plane") });
    this.windowed(number, member, viewer.get("window"));
    for (const pane of viewer.panes) if (pane.name !== "oblique") this.zoomed(number, member, { pane: pane.name, ...pane.view });
  }
}

/** Whether a window of one means the same in the other. */
export const sameScale = (a, b) => a.modality === b.modality && a.units === b.units && !a.colour && !b.colour;

function hubFollow(member, other, plane, index) {
  const name = plane && member.meta.planes[plane] ? plane : member.viewer.get("plane");
  const found = stackPosition(member.meta, other.meta, name, index);
  if (found) other.goToIndex(found.plane, found.number);
}

const hubPaneSize = (pane) => ({ width: pane.width || 1, height: pane.height || 1 });

/** A view with what it does not say. */
export const wholeView = (view) => ({ ...PLAIN_VIEW, ...(view || {}) });
