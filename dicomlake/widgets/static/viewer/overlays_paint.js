// Overlays on a pane: fills, outlines, contours, isodose lines, a second image.

import { colormapTable } from "./colormaps.js";

export const UNCOLOURED = "#ffffff"; // a label until Python gives it a colour
const OUTLINE_PX = 1.6;
const STRIPE = 2; // pixels of a stripe where labels overlap
const RAMP_END = 0.35; // of the window: from here on a fused image has its full opacity
const GRADUATED_PX = 60; // isodose lines shorter than this on the screen get no number
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** Draw one overlay; part: its plane. canvases: a Map of this pane, in which pictures are kept. */
export function paintOverlay(ctx, pane, entry, part, canvases) {
  if (entry.alpha <= 0) return;
  if (part.kind === "labels") paintLabels(ctx, pane, entry, part, canvases);
  else if (part.kind === "fusion") paintFusion(ctx, pane, entry, part, canvases);
  else paintLines(ctx, pane, entry, part);
}

/** value -> label of the labels that are shown. */
export function shownLabels(entry) {
  const shown = entry.labels.filter((label) => label.visible);
  return new Map(shown.map((label) => [label.value, { ...label, color: label.color || UNCOLOURED }]));
}

/** Lines are drawn more strongly than areas: at half opacity they are opaque. */
const lineAlpha = (entry) => Math.min(1, 2 * entry.alpha);

function packedColour(hex, alpha = 255) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return packedRgba(r, g, b, alpha);
}

function packedRgba(r, g, b, a) {
  return (LITTLE_ENDIAN ? (a << 24) | (b << 16) | (g << 8) | r : (r << 24) | (g << 16) | (b << 8) | a) >>> 0;
}

/** The picture of a part, made by fill(pixels) unless it was made so before. */
function pictureOfPart(canvases, entry, part, key, fill) {
  const known = canvases.get(entry.id) || { canvas: document.createElement("canvas") };
  canvases.set(entry.id, known);
  if (known.part === part && known.key === key) return known.canvas;
  const { canvas } = known;
  if (canvas.width !== part.cols || canvas.height !== part.rows || !known.pixels) {
    Object.assign(canvas, { width: part.cols, height: part.rows });
    known.ctx = canvas.getContext("2d");
    known.pixels = known.ctx.createImageData(part.cols, part.rows);
  }
  fill(new Uint32Array(known.pixels.data.buffer));
  known.ctx.putImageData(known.pixels, 0, 0);
  Object.assign(known, { part, key });
  return canvas;
}

function drawOverlayPicture(ctx, pane, canvas, alpha, smooth) {
  const m = pane.imageToCanvas;
  ctx.save();
  ctx.globalAlpha = alpha;
  ctx.imageSmoothingEnabled = smooth;
  ctx.transform(m.a, m.b, m.c, m.d, m.e, m.f);
  ctx.drawImage(canvas, 0, 0);
  ctx.restore();
}

// ---- labels

function paintLabels(ctx, pane, entry, part, canvases) {
  const shown = shownLabels(entry);
  if (!shown.size) return;
  if (entry.style !== "outline") {
    const key = [...shown.values()].map((label) => label.value + label.color).join();
    const fill = (pixels) => fillLabels(pixels, part, shown);
    drawOverlayPicture(ctx, pane, pictureOfPart(canvases, entry, part, key, fill), entry.alpha, false);
  }
  if (entry.style === "fill") return;
  part.outlines ??= outlinesOf(part);
  const lines = [...part.outlines].filter(([value]) => shown.has(value));
  strokePaths(ctx, pane, lines.map(([value, path]) => [path, shown.get(value).color]), lineAlpha(entry), false);
}

/** Colours of the codes; where several labels are shown they make stripes, so that each is seen. */
function fillLabels(pixels, part, shown) {
  const colours = part.sets.map((set) => set.filter((v) => shown.has(v)).map((v) => packedColour(shown.get(v).color)));
  const single = Uint32Array.from(colours, (set) => (set.length === 1 ? set[0] : 0));
  const { data, cols } = part;
  for (let i = 0; i < data.length; i++) pixels[i] = single[data[i]];
  if (!colours.some((set) => set.length > 1)) return;
  for (let i = 0; i < data.length; i++) {
    const set = colours[data[i]];
    if (set.length > 1) pixels[i] = set[Math.floor(((i % cols) + Math.floor(i / cols)) / STRIPE) % set.length];
  }
}

/** value -> path around the pixels of each label, along their edges, in corner coordinates. */
function outlinesOf(part) {
  const { rows, cols, data, sets } = part;
  const paths = new Map();
  const differing = new Map();
  const labelsOf = (a, b) => {
    const key = a * 65536 + b;
    if (!differing.has(key)) differing.set(key, [...sets[a].filter((v) => !sets[b].includes(v)), ...sets[b].filter((v) => !sets[a].includes(v))]);
    return differing.get(key);
  };
  const add = (a, b, x0, y0, x1, y1) => {
    for (const value of labelsOf(a, b)) {
      if (!paths.has(value)) paths.set(value, new Path2D());
      const path = paths.get(value);
      path.moveTo(x0, y0);
      path.lineTo(x1, y1);
    }
  };
  const at = (row, col) => (row < 0 || col < 0 || row >= rows || col >= cols ? 0 : data[row * cols + col]);
  for (let row = 0; row <= rows; row++)
    alongEdge(cols, (col) => at(row - 1, col), (col) => at(row, col), (a, b, from, to) => add(a, b, from, row, to, row));
  for (let col = 0; col <= cols; col++)
    alongEdge(rows, (row) => at(row, col - 1), (row) => at(row, col), (a, b, from, to) => add(a, b, col, from, col, to));
  return paths;
}

/** Runs along an edge between pixels where the codes on both sides differ and stay the same. */
function alongEdge(length, before, after, found) {
  let [a, b, from] = [0, 0, 0];
  for (let i = 0; i <= length; i++) {
    const [c, d] = i < length ? [before(i), after(i)] : [0, 0];
    if (c === a && d === b) continue;
    if (a !== b) found(a, b, from, i);
    [a, b, from] = [c, d, i];
  }
}

// ---- lines

function paintLines(ctx, pane, entry, part) {
  const shown = shownLabels(entry);
  const lines = part.lines.filter((line) => shown.has(line.label));
  if (!lines.length) return;
  const paths = [...pathsByLabel(lines)].map(([value, path]) => [path, shown.get(value).color]);
  if (entry.style !== "outline") fillPaths(ctx, pane, paths, entry.alpha);
  if (entry.style === "fill") return;
  strokePaths(ctx, pane, paths, lineAlpha(entry), true);
  if (part.kind === "isodose") writeLevels(ctx, pane, lines, shown, lineAlpha(entry));
}

/** value -> one path of all its lines. */
function pathsByLabel(lines) {
  const paths = new Map();
  for (const line of lines) {
    if (!paths.has(line.label)) paths.set(line.label, new Path2D());
    paths.get(line.label).addPath(line.path);
  }
  return paths;
}

function pathOnScreen(pane, path) {
  const placed = new Path2D();
  placed.addPath(path, pane.imageToCanvas);
  return placed;
}

function fillPaths(ctx, pane, paths, alpha) {
  ctx.save();
  ctx.globalAlpha = alpha;
  for (const [path, colour] of paths) {
    ctx.fillStyle = colour;
    ctx.fill(pathOnScreen(pane, path), "evenodd");
  }
  ctx.restore();
}

/** Lines of one width on the screen, whatever the zoom; halo: dark beside them, to be seen on bright bone. */
function strokePaths(ctx, pane, paths, alpha, halo) {
  ctx.save();
  ctx.globalAlpha = alpha;
  ctx.lineJoin = "round";
  ctx.lineCap = "square";
  for (const [path, colour] of paths) {
    const placed = pathOnScreen(pane, path);
    if (halo) {
      ctx.lineWidth = OUTLINE_PX + 2;
      ctx.strokeStyle = "rgba(0, 0, 0, 0.45)";
      ctx.stroke(placed);
    }
    ctx.lineWidth = OUTLINE_PX;
    ctx.strokeStyle = colour;
    ctx.stroke(placed);
  }
  ctx.restore();
}

/** The Gy of each level at the top of its longest line: colours alone would not tell them apart. */
function writeLevels(ctx, pane, lines, shown, alpha) {
  const longest = new Map();
  for (const line of lines) if (line.count > (longest.get(line.label)?.count || 0)) longest.set(line.label, line);
  ctx.save();
  ctx.globalAlpha = alpha;
  ctx.font = "600 12px system-ui, sans-serif";
  ctx.textAlign = "center";
  ctx.lineWidth = 3;
  const taken = [];
  for (const [value, line] of longest) {
    const [x, y] = pane.toScreen(...line.top);
    if (line.count * pane.meta.col_mm * pane.scale < GRADUATED_PX) continue;
    if (taken.some(([a, b]) => Math.abs(a - x) < 34 && Math.abs(b - y) < 12)) continue;
    taken.push([x, y]);
    ctx.strokeStyle = "rgba(0, 0, 0, 0.8)";
    ctx.strokeText(`${Number(value.toPrecision(3))}`, x, y - 3);
    ctx.fillStyle = shown.get(value).color;
    ctx.fillText(`${Number(value.toPrecision(3))}`, x, y - 3);
  }
  ctx.restore();
}

// ---- a second image

function paintFusion(ctx, pane, entry, part, canvases) {
  const key = [...entry.window, entry.colormap, entry.blend].join();
  const fill = (pixels) => fillFusion(pixels, part, entry);
  drawOverlayPicture(ctx, pane, pictureOfPart(canvases, entry, part, key, fill), entry.alpha, true);
}

function fillFusion(pixels, part, { window: [center, width], colormap, blend }) {
  const table = fusionTable(colormap, blend);
  const factor = (part.slope / width) * 255;
  const offset = ((part.intercept - center + width / 2) / width) * 255;
  const { data } = part;
  for (let i = 0; i < data.length; i++) {
    const place = data[i] * factor + offset;
    pixels[i] = data[i] === 0 ? 0 : table[place < 0 ? 0 : place > 255 ? 255 : Math.round(place)];
  }
}

const fusionTables = new Map();

/** 256 packed colours with their opacity: "mix" is even, "ramp" lets low values through. */
function fusionTable(colormap, blend) {
  const key = `${colormap}|${blend}`;
  if (!fusionTables.has(key)) {
    const rgb = colormapTable(colormap);
    const opacity = (i) => (blend === "ramp" ? Math.min(255, Math.round(i / RAMP_END)) : 255);
    fusionTables.set(key, Uint32Array.from({ length: 256 }, (_, i) => packedRgba(rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], opacity(i))));
  }
  return fusionTables.get(key);
}

// ---- what is under the pointer

let pointerContext = null;

/** Words for what an overlay has at [row, col], or "". */
export function wordsAt(entry, part, row, col) {
  const [r, c] = [Math.round(row), Math.round(col)];
  if (r < 0 || c < 0 || r >= part.rows || c >= part.cols) return "";
  const shown = shownLabels(entry);
  if (part.kind === "labels")
    return part.sets[part.data[r * part.cols + c]].filter((v) => shown.has(v)).map((v) => shown.get(v).name).join(", ");
  if (part.kind === "fusion") return fusionWords(entry, part, part.data[r * part.cols + c]);
  const inside = insideOf(part, shown, row, col);
  if (part.kind === "contours") return inside.map((v) => shown.get(v).name).join(", ");
  return inside.length ? `above ${Number(Math.max(...inside).toPrecision(4))} Gy` : "";
}

function fusionWords(entry, part, number) {
  if (!number) return "";
  const value = number * part.slope + part.intercept;
  const near = Number(value.toPrecision(4)); // what travels has 65,534 steps
  return `${entry.name} ${Math.abs(value) < part.slope ? 0 : near}${entry.units ? ` ${entry.units}` : ""}`;
}

/** Values of the lines that go around a place. */
function insideOf(part, shown, row, col) {
  pointerContext ??= document.createElement("canvas").getContext("2d");
  const closed = part.lines.filter((line) => line.closed && shown.has(line.label));
  const paths = [...pathsByLabel(closed)];
  return paths.filter(([, path]) => pointerContext.isPointInPath(path, col + 0.5, row + 0.5, "evenodd")).map(([v]) => v);
}
