// The crosshair: where the other panes cut this one.

export const PLANE_COLORS = { axial: "#56b4e9", coronal: "#e69f00", sagittal: "#2fd6a0", oblique: "#e58fc1", frame: "#9aa4ad" };
const GAP_PX = 14;
const GRAB_PX = 5;

/** Which array axis a column of a plane's to_index goes along. */
const axisOf = (meta, column) => [0, 1, 2].find((i) => Math.abs(meta.to_index[i][column]) > 0.5);

/** The plane, of those that the stack has, that is cut along an array axis. */
function planeAcross(planes, axis) {
  return Object.keys(planes).find((name) => axisOf(planes[name], 0) === axis);
}

/** The two lines through the crosshair: [{name of the plane seen edge-on, from, to}, …] in CSS pixels. */
function linesOf(pane) {
  if (pane.crossLines) return pane.crossLines();
  const { meta } = pane;
  const [row, col] = pane.cross;
  const { planes } = pane.viewer.meta;
  return [
    { name: planeAcross(planes, axisOf(meta, 1)), from: pane.toScreen(row, -0.5), to: pane.toScreen(row, meta.cols - 0.5) },
    { name: planeAcross(planes, axisOf(meta, 2)), from: pane.toScreen(-0.5, col), to: pane.toScreen(meta.rows - 0.5, col) },
  ];
}

/** Draw it, open in the middle so that it hides nothing. */
export function drawCross(ctx, pane) {
  const center = pane.toScreen(...pane.cross);
  ctx.save();
  ctx.lineWidth = 1;
  for (const line of linesOf(pane)) drawOpen(ctx, line, center);
  const tilted = pane.viewer.tiltedLine(pane);
  if (tilted) drawOpen(ctx, { ...tilted, dashed: true }, center);
  ctx.restore();
}

function drawOpen(ctx, { name, from, to, dashed }, center) {
  ctx.strokeStyle = PLANE_COLORS[name] || "#ffd54a";
  ctx.globalAlpha = 0.85;
  ctx.setLineDash(dashed ? [6, 4] : []);
  ctx.beginPath();
  for (const end of [from, to]) {
    const length = Math.hypot(end[0] - center[0], end[1] - center[1]);
    if (length <= GAP_PX) continue;
    const part = GAP_PX / length;
    ctx.moveTo(center[0] + (end[0] - center[0]) * part, center[1] + (end[1] - center[1]) * part);
    ctx.lineTo(end[0], end[1]);
  }
  ctx.stroke();
}

/** Whether a place in CSS pixels is near enough to the middle of the crosshair, or to one of its lines. */
export function onCross(pane, x, y) {
  const [cx, cy] = pane.toScreen(...pane.cross);
  return Math.hypot(x - cx, y - cy) < 2 * GAP_PX || linesOf(pane).some((line) => farFrom(line, x, y) < GRAB_PX);
}

/** Distance in CSS pixels from a line's stretch. */
export function farFrom({ from, to }, x, y) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const part = Math.min(Math.max(((x - from[0]) * dx + (y - from[1]) * dy) / (dx * dx + dy * dy || 1), 0), 1);
  return Math.hypot(x - from[0] - part * dx, y - from[1] - part * dy);
}
