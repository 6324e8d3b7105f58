// The tilted plane: where it lies, its picture computed by Python, its line in the other panes.

import { apply4, clampTo, cross3, directionLetters, dot3, inverse4, plus3, turned3, unit3 } from "./geometry.js";
import { farFrom } from "./crosshair.js";
import { numberText } from "./looks.js";
import { Pane } from "./pane.js";
import { raw } from "./planes.js";

const MOST_PIXELS = 640; // along a side
const DEGREE = Math.PI / 180;
const HANDLE_PX = 10;

const columnOf = (m, i) => [m[0][i], m[1][i], m[2][i]];
const times4 = (a, b) => a.map((row) => [0, 1, 2, 3].map((j) => row.reduce((sum, v, k) => sum + v * b[k][j], 0)));

/** Array index -> LPS of a stack, from one of its planes; null without geometry. */
export function affineOf(meta) {
  const plane = meta.planes[meta.order[0]];
  return plane.to_lps ? times4(plane.to_lps, inverse4(plane.to_index)) : null;
}

/** The acquired planes' directions: u along columns' numbers, v along rows', n across. */
function baseAxes(meta) {
  const { to_lps: m } = meta.planes[meta.order[0]];
  const u = unit3(columnOf(m, 2));
  const n = unit3(cross3(u, columnOf(m, 1)));
  return { u, v: cross3(n, u), n };
}

/** Directions of the tilted plane: turned about v, then about u. tilt: [about u, about v], degrees. */
export function tiltedAxes(meta, [a, b]) {
  const base = baseAxes(meta);
  const turn = (w) => turned3(turned3(w, base.v, b * DEGREE), base.u, a * DEGREE);
  return { u: turn(base.u), v: turn(base.v), n: turn(base.n) };
}

/** The tilt whose plane has this normal. */
export function tiltOf(meta, normal) {
  const base = baseAxes(meta);
  const n = dot3(normal, base.n) < 0 ? normal.map((v) => -v) : normal;
  const [a, b] = [Math.atan2(-dot3(n, base.v), dot3(n, base.n)), Math.asin(clampTo(dot3(n, base.u), -1, 1))];
  return [a, b].map((angle) => Math.round((angle / DEGREE) * 2) / 2);
}

/** Where a plane through a point cuts the edges of the volume. */
function sectionOf(affine, shape, through, normal) {
  const points = [];
  const at = (corner) => apply4(affine, corner.map((side, i) => side * (shape[i] - 1)));
  for (let axis = 0; axis < 3; axis++)
    for (const [p, q] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const [from, to] = [0, 1].map((side) => at([0, 1, 2].map((i) => (i === axis ? side : i === (axis + 1) % 3 ? p : q))));
      const [near, far] = [from, to].map((end) => dot3(plus3(end, through, -1), normal));
      if (near * far <= 0 && near !== far) points.push(plus3(from, plus3(to, from, -1), near / (near - far)));
    }
  return points;
}

/** [lowest, highest] of points along an axis. */
function spanAlong(points, axis) {
  const found = points.map((point) => dot3(point, axis));
  return [Math.min(...found), Math.max(...found)];
}

/** Meta of the tilted plane through a point: like that of a plane, with what Python needs in `ask`. */
export function obliqueMeta(meta, tilt, through) {
  const affine = affineOf(meta);
  const { u, v, n } = tiltedAxes(meta, tilt);
  const middle = apply4(affine, meta.shape.map((size) => (size - 1) / 2));
  const largest = sectionOf(affine, meta.shape, middle, n); // of a box, no parallel section is larger
  const [width, height] = [u, v].map((axis) => spanAlong(largest, axis)).map(([low, high]) => high - low);
  const fine = Math.min(...Object.values(meta.planes).flatMap((p) => [p.row_mm, p.col_mm]));
  const spacing = Math.max(fine, width / MOST_PIXELS, height / MOST_PIXELS);
  const [cols, rows] = [width, height].map((size) => Math.ceil(size / spacing) + 1);
  const here = sectionOf(affine, meta.shape, through, n);
  const center = [u, v].reduce((sum, axis) => {
    const [low, high] = spanAlong(here.length ? here : largest, axis);
    return plus3(sum, axis, (low + high) / 2 - dot3(sum, axis));
  }, through);
  const origin = plus3(plus3(center, u, (-spacing * (cols - 1)) / 2), v, (-spacing * (rows - 1)) / 2);
  const to_lps = [0, 1, 2].map((i) => [n[i] * spacing, v[i] * spacing, u[i] * spacing, origin[i]]);
  to_lps.push([0, 0, 0, 1]);
  return {
    ...{ count: 1, rows, cols, row_mm: spacing, col_mm: spacing, step_mm: spacing, to_lps, normal: n },
    to_index: times4(inverse4(affine), to_lps),
    letters: {
      ...{ left: directionLetters(u.map((w) => -w)), right: directionLetters(u) },
      ...{ top: directionLetters(v.map((w) => -w)), bottom: directionLetters(v) },
    },
    ask: { center_mm: center, u, v, spacing_mm: spacing, rows, cols },
  };
}

/** The pane of the tilted plane. */
export class ObliquePane extends Pane {
  constructor(viewer) {
    super(viewer, "oblique");
    this.number = 0;
    this.answered = "";
    this.flying = false;
  }

  get meta() {
    const { viewer } = this;
    const key = JSON.stringify([viewer.get("tilt"), viewer.mm()]);
    if (key !== this.metaKey) {
      this.metaKey = key;
      this.tilted = obliqueMeta(viewer.meta, viewer.get("tilt"), viewer.mm());
    }
    return this.tilted;
  }

  get cross() {
    return apply4(inverse4(this.meta.to_lps), this.viewer.mm()).slice(1);
  }

  source() {
    const { viewer } = this;
    const slab = { slab_mm: viewer.get("slab_mm"), slab_mode: viewer.get("slab_mode"), extra: this.extra };
    this.wanted = { ...this.meta.ask, ...slab };
    const key = JSON.stringify(this.wanted);
    if (key !== this.answered && !this.flying && key !== this.failedKey) this.fetch(key);
    const failure = key === this.failedKey ? this.failed : null;
    const shown = { number: 0, extra: this.extra, slab: [slab.slab_mode, slab.slab_mm], key };
    return { image: key === this.answered ? this.fresh : null, ...shown, failure, coming: key !== this.answered };
  }

  async fetch(key) {
    this.flying = true;
    try {
      const { data, buffers } = await this.viewer.link.ask("oblique", this.wanted);
      [this.fresh, this.answered] = [raw(buffers[0], data), key];
    } catch (failure) {
      [this.failed, this.failedKey] = [failure.message, key];
    }
    this.flying = false;
    this.viewer.redraw();
  }

  placeLines() {
    const [a, b] = this.viewer.get("tilt");
    return ["Oblique", `${numberText(a)}° / ${numberText(b)}°`];
  }

  crossLines() {
    const [row, col] = this.cross;
    const { rows, cols } = this.meta;
    return [
      { name: "oblique", from: this.toScreen(row, -0.5), to: this.toScreen(row, cols - 0.5) },
      { name: "oblique", from: this.toScreen(-0.5, col), to: this.toScreen(rows - 0.5, col) },
    ];
  }
}

/** The line that the tilted plane makes in a pane, with the direction it runs in (LPS). */
export function obliqueLine(pane) {
  const { viewer, meta } = pane;
  if (!meta.to_lps || pane.name === "oblique") return null;
  const normal = unit3(cross3(columnOf(meta.to_lps, 2), columnOf(meta.to_lps, 1)));
  const across = cross3(normal, tiltedAxes(viewer.meta, viewer.get("tilt")).n);
  if (Math.hypot(...across) < 0.02) return null; // it lies in this plane
  const direction = unit3(across);
  const there = apply4(inverse4(meta.to_lps), plus3(viewer.mm(), direction, 1000)).slice(1);
  const back = apply4(inverse4(meta.to_lps), plus3(viewer.mm(), direction, -1000)).slice(1);
  return { name: "oblique", from: pane.toScreen(...back), to: pane.toScreen(...there), direction, normal };
}

/** Begin to turn the tilted plane by its line: a function of (row, col) to call while dragging, or null. */
export function grabOblique(pane, x, y) {
  const line = obliqueLine(pane);
  if (!line || farFrom(line, x, y) > HANDLE_PX) return null;
  const { viewer } = pane;
  const { n } = tiltedAxes(viewer.meta, viewer.get("tilt"));
  return (row, col) => {
    const to = plus3(pane.toMm(row, col), viewer.mm(), -1);
    const flat = plus3(to, line.normal, -dot3(to, line.normal));
    if (Math.hypot(...flat) < 1) return;
    let angle = Math.atan2(dot3(cross3(line.direction, flat), line.normal), dot3(line.direction, flat));
    if (Math.abs(angle) > Math.PI / 2) angle -= Math.sign(angle) * Math.PI; // a line has two ends
    viewer.hold({ tilt: tiltOf(viewer.meta, turned3(n, line.normal, angle)) });
  };
}
