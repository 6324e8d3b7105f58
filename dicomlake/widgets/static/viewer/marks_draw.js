// Marks on a pane: lines, handles, and beside them what they measure.

import { markGoesThrough, markHandles, markIsOn, markLine } from "./marks_shapes.js";
import { numberText } from "./looks.js";

const MARK_COLOR = "#ffe14d";
const MARK_CHOSEN = "#5ce1ff";
const MARK_LINE_PX = 15;
const MARK_KEY_TEXT = "★ Key image";
const MARK_FONT = "12px system-ui, sans-serif";

const markRounded = (value, digits = 3) => numberText(Number(Number(value).toPrecision(digits)));
const markSaid = (value, digits) => (value === null || value === undefined ? "–" : markRounded(value, digits));

/** The one number of a mark that a list shows. */
export function markMain(mark) {
  const s = mark.stats || {};
  if (s.length_mm !== undefined) return `${s.length_mm.toFixed(1)} mm`;
  if (s.length_px !== undefined) return `${s.length_px.toFixed(1)} px`;
  if (s.angle_deg !== undefined) return s.angle_deg === null ? "no angle" : `${s.angle_deg.toFixed(1)}°`;
  if (s.value !== undefined) return s.value === null ? "" : `${markSaid(s.value, 4)} ${s.units || ""}`.trim();
  if (s.mean !== undefined && s.mean !== null) return `${markSaid(s.mean, 4)} ± ${markSaid(s.sd)} ${s.units || ""}`.trim();
  return s.count !== undefined ? markArea(s) : "";
}

function markArea(s) {
  const [area, unit] = s.area_mm2 !== undefined ? [s.area_mm2, "mm²"] : [s.area_px2, "px²"];
  return area >= 10000 && unit === "mm²" ? `${markRounded(area / 100)} cm²` : `${markSaid(area)} ${unit}`;
}

/** Lines of text beside a mark: all of them when it is chosen. */
export function markTexts(mark, { whole = false, slab = false } = {}) {
  const s = mark.stats || {};
  const lines = [mark.name || ""];
  const main = markMain(mark);
  if (main) lines.push(main);
  if (s.count !== undefined) {
    if (s.mean !== null && s.mean !== undefined) lines.push(markArea(s));
    if (s.volume_ml) lines.push(`${markSaid(s.volume_ml)} ml, planes ${mark.through[0] + 1}–${mark.through[1] + 1}`);
    if (whole && s.mean !== null) lines.push(`min ${markSaid(s.min, 4)}  max ${markSaid(s.max, 4)}  median ${markSaid(s.median, 4)}`);
    if (whole) lines.push(`${s.count} pixels${s.left_out ? `, ${s.left_out} of padding left out` : ""}`);
    if (slab) lines.push("of the plane, not the slab");
  }
  if (whole && mark.label) lines.push(mark.label);
  if (s.remark) lines.push(s.remark);
  return lines.filter(Boolean);
}

/** All marks of a pane. chosen: {id, handle}; draft: what is being drawn; slab: whether a slab is shown. */
export function drawMarks(ctx, pane, marks, { chosen, draft, slab }) {
  const taken = [];
  ctx.font = MARK_FONT;
  ctx.lineJoin = ctx.lineCap = "round";
  for (const mark of marks) {
    if (mark.tool === "key") {
      if (markIsOn(mark, pane)) drawMarkKey(ctx, pane);
      continue;
    }
    const on = markIsOn(mark, pane);
    if (!on && !markGoesThrough(mark, pane)) continue;
    const isChosen = chosen && chosen.id === mark.id;
    drawOneMark(ctx, pane, mark, { isChosen, faint: !on, handle: isChosen ? chosen.handle : null });
    if (on) drawMarkText(ctx, pane, mark, markTexts(mark, { whole: isChosen, slab }), isChosen, taken);
  }
  if (draft && draft.pane === pane) {
    drawOneMark(ctx, pane, draft.mark, { isChosen: true, handle: null });
    drawMarkText(ctx, pane, draft.mark, markTexts(draft.mark), true, taken);
  }
}

function drawOneMark(ctx, pane, mark, { isChosen, faint = false, handle }) {
  const { line, closed } = markLine(mark, pane);
  const color = isChosen ? MARK_CHOSEN : MARK_COLOR;
  ctx.globalAlpha = faint ? 0.45 : 1;
  ctx.setLineDash(faint ? [4, 4] : []);
  if (mark.tool === "point") drawMarkPoint(ctx, line[0], color);
  else
    for (const [style, width] of [["#000a", isChosen ? 5 : 4], [color, isChosen ? 2 : 1.5]]) {
      ctx.strokeStyle = style;
      ctx.lineWidth = width;
      ctx.stroke(markPath(line, closed));
    }
  ctx.setLineDash([]);
  if (mark.tool === "length") for (const end of line) drawMarkEnd(ctx, line, end, color);
  if (isChosen) markHandles(mark).forEach(({ at }, i) => drawMarkHandle(ctx, pane.toScreen(...at), i === handle));
  ctx.globalAlpha = 1;
}

function markPath(line, closed) {
  const path = new Path2D();
  line.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
  if (closed) path.closePath();
  return path;
}

/** The small stroke across the end of a length. */
function drawMarkEnd(ctx, [a, b], [x, y], color) {
  if (!b) return;
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const [dx, dy] = [(-(b[1] - a[1]) / length) * 5, ((b[0] - a[0]) / length) * 5];
  ctx.strokeStyle = color;
  ctx.lineWidth = 1.5;
  ctx.stroke(markPath([[x - dx, y - dy], [x + dx, y + dy]], false));
}

function drawMarkPoint(ctx, [x, y], color) {
  for (const [style, width] of [["#000a", 4], [color, 1.5]]) {
    ctx.strokeStyle = style;
    ctx.lineWidth = width;
    ctx.beginPath();
    ctx.arc(x, y, 5, 0, 2 * Math.PI);
    ctx.moveTo(x - 9, y);
    ctx.lineTo(x - 2, y);
    ctx.moveTo(x + 2, y);
    ctx.lineTo(x + 9, y);
    ctx.stroke();
  }
}

function drawMarkHandle(ctx, [x, y], isHeld) {
  const size = isHeld ? 10 : 7;
  ctx.fillStyle = isHeld ? "#ffffff" : MARK_CHOSEN;
  ctx.strokeStyle = "#000";
  ctx.lineWidth = 1;
  ctx.fillRect(x - size / 2, y - size / 2, size, size);
  ctx.strokeRect(x - size / 2, y - size / 2, size, size);
}

/** A key image is framed, and says so. */
function drawMarkKey(ctx, pane) {
  ctx.strokeStyle = MARK_COLOR;
  ctx.lineWidth = 2;
  ctx.strokeRect(3, 3, pane.width - 6, pane.height - 6);
  ctx.textBaseline = "bottom";
  const width = ctx.measureText(MARK_KEY_TEXT).width;
  markHaloed(ctx, MARK_KEY_TEXT, (pane.width - width) / 2, pane.height - 28, MARK_COLOR);
}

function markHaloed(ctx, text, x, y, color) {
  ctx.lineWidth = 3;
  ctx.strokeStyle = "#000c";
  ctx.strokeText(text, x, y);
  ctx.fillStyle = color;
  ctx.fillText(text, x, y);
}

/** Where the text of a mark stands: right of it or left, moved down from other texts, joined by a leader. */
export function markTextBox(ctx, pane, mark, lines, taken) {
  const { line } = markLine(mark, pane);
  const [xs, ys] = [0, 1].map((k) => line.map((point) => point[k]));
  const width = Math.max(...lines.map((text) => ctx.measureText(text).width), 10) + 6;
  const height = lines.length * MARK_LINE_PX + 4;
  const right = Math.max(...xs) + 14;
  const fits = right + width <= pane.width - 4;
  const left = fits ? right : Math.max(Math.min(...xs) - 14 - width, 4);
  const box = { x: left, y: markClamp((Math.min(...ys) + Math.max(...ys)) / 2 - height / 2, pane, height), width, height };
  for (let tries = 0; tries < 12; tries++) {
    const other = taken.find((one) => markBoxesMeet(one, box));
    if (!other) break;
    box.y = other.y + other.height + 2;
    if (box.y + height > pane.height) box.y = markClamp(pane.height, pane, height);
  }
  taken.push(box);
  return box;
}

const markClamp = (y, pane, height) => Math.min(Math.max(y, 4), Math.max(pane.height - height - 4, 4));
const markBoxesMeet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

function drawMarkText(ctx, pane, mark, lines, isChosen, taken) {
  if (!lines.length) return;
  const box = markTextBox(ctx, pane, mark, lines, taken);
  const color = isChosen ? MARK_CHOSEN : MARK_COLOR;
  drawMarkLeader(ctx, pane, mark, box, color);
  ctx.textBaseline = "top";
  lines.forEach((text, i) => {
    ctx.font = i === 0 && lines.length > 1 ? `600 ${MARK_FONT}` : MARK_FONT;
    markHaloed(ctx, text, box.x + 3, box.y + 2 + i * MARK_LINE_PX, color);
  });
  ctx.font = MARK_FONT;
}

function drawMarkLeader(ctx, pane, mark, box, color) {
  const { line } = markLine(mark, pane);
  const toRight = box.x > Math.min(...line.map((point) => point[0]));
  const to = [toRight ? box.x : box.x + box.width, box.y + box.height / 2];
  const from = line.reduce((best, point) => (markGap(point, to) < markGap(best, to) ? point : best));
  ctx.setLineDash([2, 3]);
  ctx.strokeStyle = color;
  ctx.lineWidth = 1;
  ctx.globalAlpha = 0.8;
  ctx.stroke(markPath([from, to], false));
  ctx.globalAlpha = 1;
  ctx.setLineDash([]);
}

const markGap = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
