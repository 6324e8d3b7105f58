// Shapes of marks on a pane: their lines, handles, what the pointer is near to, how long and wide they are.

import { apply4 } from "./geometry.js";

export const MARK_TOOLS = {
  length: { points: 2, title: "Length", key: "d" },
  angle: { points: 3, title: "Angle", key: "a" },
  ellipse: { points: 2, title: "Ellipse", key: "e" },
  rectangle: { points: 2, title: "Rectangle", key: "g" },
  polygon: { points: Infinity, title: "Polygon", key: "y" },
  freehand: { points: Infinity, title: "Freehand outline", key: "h" },
  point: { points: 1, title: "Point", key: "t" },
};
export const MARK_REGIONS = ["ellipse", "rectangle", "polygon", "freehand"];
export const MARK_NEAR_PX = 7;
const MARK_MOST_POINTS = 160; // of a freehand outline, after those that say little are left out
const MARK_MOST_HANDLES = 24; // an outline of more points is moved as a whole

/** Whether a mark lies on what a pane shows. */
export function markIsOn(mark, pane) {
  const extra = pane.shownExtra || pane.extra;
  return mark.plane === pane.name && mark.index === pane.number && String(mark.extra || extra) === String(extra);
}

/** Whether a mark goes through the shown plane, though it was drawn on another. */
export function markGoesThrough(mark, pane) {
  if (mark.plane !== pane.name || !mark.through) return false;
  return mark.through[0] <= pane.number && pane.number <= mark.through[1];
}

/** The line of a mark in CSS pixels, and whether it is closed. */
export function markLine(mark, pane) {
  const on = (points) => points.map(([row, col]) => pane.toScreen(row, col));
  if (mark.points.length < 2) return { line: on(mark.points), closed: false };
  const [[r0, c0], [r1, c1]] = mark.points;
  if (mark.tool === "rectangle") return { line: on([[r0, c0], [r0, c1], [r1, c1], [r1, c0]]), closed: true };
  if (mark.tool === "ellipse") return { line: on(markEllipse(r0, c0, r1, c1)), closed: true };
  return { line: on(mark.points), closed: MARK_REGIONS.includes(mark.tool) && !mark.open };
}

function markEllipse(r0, c0, r1, c1) {
  const [row, col, down, across] = [(r0 + r1) / 2, (c0 + c1) / 2, (r1 - r0) / 2, (c1 - c0) / 2];
  return Array.from({ length: 64 }, (_, i) => {
    const turn = (i * Math.PI) / 32;
    return [row + down * Math.sin(turn), col + across * Math.cos(turn)];
  });
}

/** Places of the handles, [row, col], each with what moving it does to the points. */
export function markHandles(mark) {
  const set = (i) => (points, at) => points.map((point, k) => (k === i ? at : point));
  if (mark.tool === "rectangle" || mark.tool === "ellipse") {
    const [[r0, c0], [r1, c1]] = mark.points;
    const corner = (i, j) => ({
      at: [i ? r1 : r0, j ? c1 : c0],
      moved: (points, [row, col]) => {
        const found = points.map((point) => [...point]);
        found[i][0] = row;
        found[j][1] = col;
        return found;
      },
    });
    return [corner(0, 0), corner(0, 1), corner(1, 1), corner(1, 0)];
  }
  if (mark.points.length > MARK_MOST_HANDLES) return [];
  return mark.points.map((at, i) => ({ at, moved: set(i) }));
}

/** What of a mark lies at (x, y): {handle: number} or {handle: null} for its line; null when it is far. */
export function markHit(mark, pane, x, y) {
  const handles = markHandles(mark);
  for (const [i, { at }] of handles.entries()) {
    const [hx, hy] = pane.toScreen(...at);
    if (Math.hypot(hx - x, hy - y) <= MARK_NEAR_PX) return { handle: mark.points.length > 1 ? i : null };
  }
  const { line, closed } = markLine(mark, pane);
  const ends = closed ? [...line, line[0]] : line;
  const near = ends.some((point, i) => i > 0 && markDistance(ends[i - 1], point, [x, y]) <= MARK_NEAR_PX);
  return near ? { handle: null } : null;
}

/** From a point to the stretch a – b. */
function markDistance(a, b, [x, y]) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const along = ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy || 1);
  const t = Math.min(Math.max(along, 0), 1);
  return Math.hypot(x - a[0] - t * dx, y - a[1] - t * dy);
}

/** Points shifted, as far as they stay on the plane. */
export function markShifted(points, rows, cols, meta) {
  const low = [0, 1].map((k) => Math.min(...points.map((point) => point[k])));
  const high = [0, 1].map((k) => Math.max(...points.map((point) => point[k])));
  const keep = (d, k, size) => Math.min(Math.max(d, -0.5 - low[k]), size - 0.5 - high[k]);
  const [dr, dc] = [keep(rows, 0, meta.rows), keep(cols, 1, meta.cols)];
  return points.map(([row, col]) => [row + dr, col + dc]);
}

/** A place on the plane, rounded to a hundredth of a pixel. */
export function markPlace(row, col, meta) {
  const on = (v, size) => Math.round(Math.min(Math.max(v, -0.5), size - 0.5) * 100) / 100;
  return [on(row, meta.rows), on(col, meta.cols)];
}

/** An outline without the points that lie within a quarter of a pixel of it (Douglas and Peucker). */
export function markSimplified(points) {
  let tolerance = 0.25;
  let found = markThinned(points, tolerance);
  while (found.length > MARK_MOST_POINTS) found = markThinned(points, (tolerance *= 1.5));
  return found;
}

function markThinned(points, tolerance) {
  if (points.length < 3) return points;
  const [a, b] = [points[0], points.at(-1)];
  let [far, at] = [0, 0];
  for (let i = 1; i < points.length - 1; i++) {
    const distance = markDistance(a, b, points[i]);
    if (distance > far) [far, at] = [distance, i];
  }
  if (far <= tolerance) return [a, b];
  return [...markThinned(points.slice(0, at + 1), tolerance).slice(0, -1), ...markThinned(points.slice(at), tolerance)];
}

/** Points as vectors in mm, or in pixels where their size is unknown; differences of them are true. */
function markVectors(points, pane, calibrated) {
  const { to_lps: toLps, row_mm: rowMm, col_mm: colMm } = pane.meta;
  if (toLps) return points.map(([row, col]) => apply4(toLps, [pane.number, row, col]));
  const [down, across] = calibrated ? [rowMm, colMm] : [1, 1];
  return points.map(([row, col]) => [row * down, col * across, 0]);
}

/** What a mark that is being drawn measures already here: length or angle; Python says the rest. */
export function markLive(mark, pane, calibrated) {
  const at = markVectors(mark.points, pane, calibrated);
  const minus = (a, b) => a.map((v, i) => v - b[i]);
  if (mark.tool === "length" && at.length === 2)
    return { [calibrated ? "length_mm" : "length_px"]: Math.hypot(...minus(at[1], at[0])) };
  if (mark.tool !== "angle" || at.length < 3) return null;
  const [a, b] = [minus(at[0], at[1]), minus(at[2], at[1])];
  const dot = a.reduce((sum, v, i) => sum + v * b[i], 0);
  const cross = Math.hypot(a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]);
  return { angle_deg: (Math.atan2(cross, dot) * 180) / Math.PI };
}

/** A mark of usual size at a place, for those who draw by keyboard. */
export function markAt(tool, row, col, meta) {
  const [down, across] = [10, 10].map((mm, k) => Math.max(mm / (k ? meta.col_mm : meta.row_mm), 2));
  const around = { up: [row - down, col], right: [row, col + across], down: [row + down, col], left: [row, col - across] };
  const made = {
    length: [around.left, around.right],
    angle: [around.up, [row, col], around.right],
    ellipse: [[row - down, col - across], [row + down, col + across]],
    rectangle: [[row - down, col - across], [row + down, col + across]],
    polygon: [around.up, around.right, around.down, around.left],
    freehand: [around.up, around.right, around.down, around.left],
    point: [[row, col]],
  };
  return made[tool].map(([r, c]) => markPlace(r, c, meta));
}
