// Where things lie: planes, array indexes, patient millimetres and the screen.

/** A 4x4 matrix (rows) times (a, b, c, 1); the first three of the product. */
export function apply4(m, [a, b, c]) {
  return [0, 1, 2].map((i) => m[i][0] * a + m[i][1] * b + m[i][2] * c + m[i][3]);
}

/** The inverse of an affine 4x4 matrix (rows). */
export function inverse4(m) {
  const [[a, b, c], [d, e, f], [g, h, i]] = m;
  const A = e * i - f * h, B = c * h - b * i, C = b * f - c * e;
  const D = f * g - d * i, E = a * i - c * g, F = c * d - a * f;
  const G = d * h - e * g, H = b * g - a * h, I = a * e - b * d;
  const det = a * A + b * D + c * G;
  const rows = [[A, B, C], [D, E, F], [G, H, I]].map((row) => row.map((v) => v / det));
  const t = [m[0][3], m[1][3], m[2][3]];
  return [...rows.map((row) => [...row, -(row[0] * t[0] + row[1] * t[1] + row[2] * t[2])]), [0, 0, 0, 1]];
}

export const clampTo = (value, low, high) => Math.min(Math.max(value, low), high);
export const dot3 = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross3 = (a, b) => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
export const plus3 = (a, b, factor = 1) => a.map((v, i) => v + factor * b[i]);
export const unit3 = (a) => {
  const length = Math.hypot(...a) || 1;
  return a.map((v) => v / length);
};

/** A vector turned about a unit axis by an angle in radians (Rodrigues). */
export function turned3(v, axis, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const across = cross3(axis, v);
  const along = dot3(axis, v) * (1 - c);
  return v.map((value, i) => value * c + across[i] * s + axis[i] * along);
}

/** [plane, row, column] (not rounded) of an array index in a plane's meta. */
export function placeIn(plane, index) {
  plane.from_index ??= inverse4(plane.to_index);
  return apply4(plane.from_index, index);
}

/** Array index, whole numbers inside the array, of a place [plane, row, column]. */
export function indexAt(plane, place, shape) {
  return apply4(plane.to_index, place).map((v, i) => clampTo(Math.round(v), 0, shape[i] - 1));
}

/** Number of the plane that goes through an array index. */
export const numberOf = (plane, index) => clampTo(Math.round(placeIn(plane, index)[0]), 0, plane.count - 1);

/** The array index in another plane of the same pile: only what the pile goes along changes. */
export function indexOnPlane(plane, index, number, shape) {
  const [, row, col] = placeIn(plane, index);
  return indexAt(plane, [clampTo(number, 0, plane.count - 1), row, col], shape);
}

export const PLAIN_VIEW = { zoom: 1, pan: [0, 0], flip_h: false, flip_v: false, rotate: 0 };

/** CSS pixels per mm at which a plane just fits a pane. */
export function fittingScale(plane, width, height, rotate) {
  const [w, h] = [plane.cols * plane.col_mm, plane.rows * plane.row_mm];
  const lying = rotate % 180 !== 0;
  return Math.min(width / (lying ? h : w), height / (lying ? w : h));
}

/** From pixel corner coordinates (column, row) to CSS pixels of a pane, in true millimetres. */
export function paneMatrix(plane, view, width, height) {
  const scale = fittingScale(plane, width, height, view.rotate) * view.zoom;
  const matrix = new DOMMatrix()
    .translateSelf(width / 2 + view.pan[0] * scale, height / 2 + view.pan[1] * scale)
    .rotateSelf(view.rotate)
    .scaleSelf(view.flip_h ? -1 : 1, view.flip_v ? -1 : 1)
    .scaleSelf(plane.col_mm * scale, plane.row_mm * scale)
    .translateSelf(-plane.cols / 2, -plane.rows / 2);
  return { matrix, scale };
}

/** The letters at the sides of the screen, of those at the sides of the image. */
export function screenLetters(letters, view) {
  let [top, right, bottom, left] = [letters.top, letters.right, letters.bottom, letters.left];
  if (view.flip_h) [left, right] = [right, left];
  if (view.flip_v) [top, bottom] = [bottom, top];
  for (let turn = 0; turn < ((view.rotate / 90) % 4 + 4) % 4; turn++)
    [top, right, bottom, left] = [left, top, right, bottom];
  return { top, right, bottom, left };
}

const SIDES = [["L", "R"], ["P", "A"], ["S", "I"]]; // of LPS: towards plus, towards minus

/** A patient position as read aloud: "L 12.0 P 40.5 S 102.0 mm". */
export function spokenMm(mm) {
  return `${mm.map((v, i) => `${SIDES[i][v < 0 ? 1 : 0]} ${Math.abs(v).toFixed(1)}`).join("  ")} mm`;
}

/** Letters of a direction in LPS, the largest part first: "R", "RA", "SPL". */
export function directionLetters(direction) {
  return direction
    .map((v, i) => [Math.abs(v), SIDES[i][v < 0 ? 1 : 0]])
    .filter(([size]) => size > 0.35)
    .sort((a, b) => b[0] - a[0])
    .map(([, letter]) => letter)
    .join("");
}
