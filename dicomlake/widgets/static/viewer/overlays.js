// The overlays of a viewer: drawn on its panes, listed and changed in a legend.

import { watchModel } from "../base/link.js";
import { overlayLegend } from "./overlays_legend.js";
import { paintOverlay, shownLabels, wordsAt } from "./overlays_paint.js";
import { overlayStoreOf } from "./overlays_store.js";

/** What draws overlays in a viewer; see draw.js for what a plug-in is. */
export function overlaysPlugin(viewer) {
  const plugin = new OverlaysPlugin(viewer);
  return {
    draw: (ctx, pane) => plugin.draw(ctx, pane),
    pointer: () => false,
    key: (event) => plugin.key(event),
    describe: (pane, row, col) => plugin.describe(pane, row, col),
    toolbar: [],
    panel: plugin.legend.el,
    dispose: () => plugin.dispose(),
  };
}

class OverlaysPlugin {
  constructor(viewer) {
    this.viewer = viewer;
    this.store = overlayStoreOf(viewer.model);
    this.canvases = new WeakMap(); // pane -> Map of id -> picture
    this.legend = overlayLegend(viewer, this.store);
    const follow = () => this.legend.follow();
    const arrived = () => {
      follow();
      viewer.redraw();
    };
    this.undo = [this.store.listen(arrived)];
    this.undo.push(watchModel(viewer.model, "change:overlays change:overlay_notes", follow));
  }

  dispose() {
    for (const undo of this.undo) undo();
  }

  /** Overlays that have something to be seen, the lowest first: images, areas, then lines. */
  seen() {
    const rank = { fusion: 0, labels: 1, contours: 2, isodose: 3 };
    return (this.viewer.get("overlays") || [])
      .filter((entry) => entry.visible && (entry.kind === "fusion" || shownLabels(entry).size))
      .sort((a, b) => rank[a.kind] - rank[b.kind]);
  }

  draw(ctx, pane) {
    if (pane.number === null) return;
    let waiting = false;
    for (const entry of this.seen()) {
      const part = this.store.get(entry, pane);
      if (part) paintOverlay(ctx, pane, entry, part, this.canvasesOf(pane));
      else waiting ||= this.store.stateOf(entry.id) !== "failed";
    }
    pane.el.dataset.overlays = waiting ? "loading" : "ready";
  }

  canvasesOf(pane) {
    if (!this.canvases.has(pane)) this.canvases.set(pane, new Map());
    return this.canvases.get(pane);
  }

  /** What lies at a place of a pane, in words: names of labels, values of fused images. */
  describe(pane, row, col) {
    const found = [];
    for (const entry of this.seen()) {
      const part = this.store.get(entry, pane);
      const words = part ? wordsAt(entry, part, row, col) : "";
      if (words) found.push(words);
    }
    return found.join(" · ");
  }

  /** "o" hides all overlays, and shows again those that it hid. */
  key(event) {
    if (event.key !== "o" || event.ctrlKey || event.metaKey || event.altKey) return false;
    return this.legend.toggleAll();
  }
}
