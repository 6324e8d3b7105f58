// Pointer and wheel on a pane. While a button is down nothing is sent: traits are saved once, on release.

import { perFrame } from "../base/dom.js";
import { crossTo, panBy, scrollPane, setWindow, toggleAlone, zoomAt } from "./actions.js";
import { onCross } from "./crosshair.js";
import { grabOblique } from "./oblique.js";

const STILL_PX = 3; // a press that moves less is a click
const NOTCH = 50; // of a mouse wheel; finer steps come from touch pads and are added up

/** Let a pane be used with the pointer; returns what stops it. */
export function listenToPointer(viewer, pane) {
  const hand = new Hand(viewer, pane);
  const { canvas } = pane;
  const handlers = {
    pointerdown: (event) => hand.down(event),
    pointermove: (event) => hand.move(event),
    pointerup: (event) => hand.up(event),
    pointercancel: (event) => hand.cancel(event),
    pointerleave: () => viewer.hover(null),
    dblclick: (event) => hand.double(event),
    contextmenu: (event) => event.preventDefault(),
    wheel: (event) => hand.wheel(event),
    focus: () => viewer.activate(pane),
  };
  for (const [name, handle] of Object.entries(handlers)) canvas.addEventListener(name, handle, { passive: false });
  return () => {
    for (const [name, handle] of Object.entries(handlers)) canvas.removeEventListener(name, handle);
  };
}

class Hand {
  constructor(viewer, pane) {
    this.viewer = viewer;
    this.pane = pane;
    this.drag = null; // what moving does: a function of the event, or "plugin"
    this.rolled = 0;
    this.steps = 0;
    this.scroll = perFrame(() => {
      scrollPane(this.viewer, this.pane, this.steps);
      this.steps = 0;
    });
  }

  /** An event in the pane's own coordinates, as plug-ins get it. */
  told(event, type) {
    const box = this.pane.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const [row, col] = this.pane.toPlane(x, y);
    const { button, buttons, shiftKey: shift, altKey: alt } = event;
    return { type, x, y, row, col, button, buttons, shift, alt, ctrl: event.ctrlKey || event.metaKey };
  }

  offered(told) {
    return [...this.viewer.plugins].reverse().some((plugin) => plugin.pointer?.(told, this.pane));
  }

  down(event) {
    const { pane, viewer } = this;
    pane.canvas.focus({ preventScroll: true });
    viewer.activate(pane);
    if (pane.number === null) return;
    const told = this.told(event, "down");
    pane.canvas.setPointerCapture?.(event.pointerId);
    this.from = told;
    this.moved = false;
    this.drag = this.offered(told) ? "plugin" : this.dragFor(told);
    event.preventDefault();
  }

  /** What a drag that begins here does. */
  dragFor(told) {
    const { viewer, pane } = this;
    const tool = viewer.get("tool");
    if (told.button === 2 || told.button === 1 || told.shift) return this.panning();
    if (told.button !== 0) return null;
    if (told.ctrl || tool === "zoom") return this.zooming(told);
    if (tool === "pan") return this.panning();
    if (tool === "window") return this.windowing();
    if (tool !== "browse") return null;
    const turn = viewer.get("arrangement") === "oblique" && !this.atMiddle(told) ? grabOblique(pane, told.x, told.y) : null;
    if (turn) return (at) => turn(at.row, at.col);
    if (viewer.crossShown() && onCross(pane, told.x, told.y)) return (at) => crossTo(viewer, pane, at.row, at.col, false);
    return this.windowing();
  }

  atMiddle({ x, y }) {
    const [cx, cy] = this.pane.toScreen(...this.pane.cross);
    return Math.hypot(x - cx, y - cy) < 20;
  }

  panning() {
    let last = this.from;
    return (at) => {
      panBy(this.viewer, this.pane, at.x - last.x, at.y - last.y, false);
      last = at;
    };
  }

  zooming({ x, y }) {
    const from = this.pane.view;
    return (at) => zoomAt(this.viewer, this.pane, Math.exp((y - at.y) / 150), { x, y, from, save: false });
  }

  windowing() {
    const { viewer, from } = this;
    if (viewer.meta.colour) return null;
    const [center, width] = viewer.get("window");
    return (at) => {
      const part = Math.exp((at.x - from.x) / 250);
      setWindow(viewer, center + ((at.y - from.y) * width) / 250, width * part, false);
    };
  }

  move(event) {
    const told = this.told(event, "move");
    const { viewer, pane } = this;
    if (this.drag === "plugin" || this.drag === null) {
      if (this.offered(told) || this.drag === "plugin") return viewer.hover(pane, told);
    } else {
      if (Math.hypot(told.x - this.from.x, told.y - this.from.y) > STILL_PX) this.moved = true;
      if (this.moved) this.drag(told);
    }
    this.cursor(told);
    return viewer.hover(pane, told);
  }

  /** The pointer says what a press would do. */
  cursor(told) {
    const { viewer, pane } = this;
    const tool = viewer.get("tool");
    const near = viewer.crossShown() && tool === "browse" && onCross(pane, told.x, told.y);
    const shapes = { pan: "grab", zoom: "zoom-in", window: "ns-resize", browse: "default" };
    pane.canvas.style.cursor = near ? "move" : shapes[tool] || "crosshair";
  }

  up(event) {
    const told = this.told(event, "up");
    const { drag, moved } = this;
    this.drag = null;
    if (drag === "plugin") this.offered(told);
    else if (drag && !moved && told.button === 0 && this.viewer.get("tool") === "browse")
      crossTo(this.viewer, this.pane, told.row, told.col, true);
    this.viewer.release();
  }

  cancel(event) {
    if (this.drag === "plugin") this.offered(this.told(event, "cancel"));
    this.drag = null;
    this.viewer.release();
  }

  double(event) {
    if (this.offered(this.told(event, "double"))) return;
    if (this.viewer.get("tool") === "browse") toggleAlone(this.viewer, this.pane);
  }

  wheel(event) {
    event.preventDefault();
    event.stopPropagation();
    this.viewer.activate(this.pane);
    const told = this.told(event, "wheel");
    if (told.ctrl) return zoomAt(this.viewer, this.pane, Math.exp(-event.deltaY / 400), told);
    if (event.deltaMode !== 0 || Math.abs(event.deltaY) >= NOTCH) this.steps += Math.sign(event.deltaY);
    else this.roll(event.deltaY);
    if (this.steps) this.scroll();
    return null;
  }

  roll(delta) {
    if (Math.sign(delta) !== Math.sign(this.rolled)) this.rolled = 0;
    this.rolled += delta;
    const whole = Math.trunc(this.rolled / NOTCH);
    this.rolled -= whole * NOTCH;
    this.steps += whole;
  }
}
