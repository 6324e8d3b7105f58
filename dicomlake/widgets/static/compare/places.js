// From one image to another: positions in mm, places in the stack, zoom and pan. Pure; no page, no model.

import { apply4, clampTo, dot3, fittingScale, inverse4, numberOf } from "../viewer/geometry.js";

/** Whether positions in mm can be told from one image to the other. Places come from Python. */
export const sameSpace = (a, b) => Boolean(a && b) && a.space !== null && a.space === b.space;

/** A position in one image, in the other; LPS, mm. */
export function mmBetween(a, b, mm) {
  return apply4(b.matrix, apply4(a.inverse, mm));
}

/** The plane at the same relative position: {plane, number}, or null where it has no such planes. */
export function stackPosition(from, to, plane, index) {
  const source = from.planes[plane];
  const name = to.planes[plane] ? plane : plane === from.order[0] ? to.order[0] : null;
  if (!source || name === null) return null;
  const target = to.planes[name];
  const part = source.count > 1 ? numberOf(source, index) / (source.count - 1) : 0.5;
  const along = planesRunAgainst(source, target) ? 1 - part : part;
  return { plane: name, number: Math.round(along * (target.count - 1)) };
}

/** Whether the planes of both are numbered in opposite directions of the patient. */
function planesRunAgainst(a, b) {
  if (!a.to_lps || !b.to_lps) return false;
  const [one, two] = [a, b].map((plane) => [0, 1, 2].map((i) => plane.to_lps[i][0]));
  return dot3(one, two) < 0;
}

/**
 * Zoom and pan that show another image at the same scale around the same place.
 * from: {plane (its meta), view, number, width, height}; to: {plane, view, width, height}.
 * move: a position in mm of the first in the second, or null where they share no space.
 */
export function viewBetween(from, to, move) {
  const scale = fittingScale(from.plane, from.width, from.height, from.view.rotate) * from.view.zoom;
  const zoom = clampTo(scale / fittingScale(to.plane, to.width, to.height, to.view.rotate), 0.1, 40);
  if (!move || !from.plane.to_lps || !to.plane.to_lps) return { zoom, pan: [...from.view.pan] };
  const [x, y] = viewOnImage(from.view.pan.map((v) => -v), from.view);
  const [row, col] = [viewMiddle(from.plane.rows) + y / from.plane.row_mm, viewMiddle(from.plane.cols) + x / from.plane.col_mm];
  const mm = move(apply4(from.plane.to_lps, [from.number, row, col]));
  const [, r, c] = apply4(inverse4(to.plane.to_lps), mm);
  const pan = viewOnScreen([(c - viewMiddle(to.plane.cols)) * to.plane.col_mm, (r - viewMiddle(to.plane.rows)) * to.plane.row_mm], to.view);
  return { zoom, pan: pan.map((v) => -v) };
}

const viewMiddle = (count) => (count - 1) / 2;

/** A vector in mm on the image (right, down) as it lies on the screen. */
function viewOnScreen([x, y], view) {
  const flipped = [view.flip_h ? -x : x, view.flip_v ? -y : y];
  return viewTurned(flipped, view.rotate);
}

function viewOnImage(vector, view) {
  const [x, y] = viewTurned(vector, -view.rotate);
  return [view.flip_h ? -x : x, view.flip_v ? -y : y];
}

function viewTurned([x, y], degrees) {
  const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  return [x * c - y * s, x * s + y * c];
}
