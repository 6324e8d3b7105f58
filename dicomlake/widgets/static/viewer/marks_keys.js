// Marks by keyboard: draw, choose, move, name, delete, undo, save.

import { BrushStroke } from "./brush.js";
import { markAt, markHandles, markPlace, markShifted, MARK_TOOLS } from "./marks_shapes.js";

const MARK_ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const MARK_TOOL_KEYS = {
  ...Object.fromEntries(Object.entries(MARK_TOOLS).map(([name, { key }]) => [key, name])),
  ...{ b: "brush", n: "erase", q: "browse" },
};

/** For the sheet of keys: [key, what it does]. */
export const MARK_KEYS = [
  ...Object.values(MARK_TOOLS).map(({ key, title }) => [key, title.toLowerCase()]),
  ["b, n", "brush, eraser"], ["q", "browse"], [", .", "smaller, larger brush (while painting)"],
  ["Enter", "draw at the crosshair; name the chosen mark; close a polygon"],
  ["Tab", "next mark, then next pane"], ["Arrows", "move the chosen mark, Shift: by ten pixels"],
  ["Space", "next handle of the chosen mark"], ["Delete", "delete the chosen mark"], ["p", "fill the chosen region"],
  ["k", "key image"], ["l", "list of marks"], ["Ctrl Z, Ctrl Shift Z", "undo, do again"],
  ["Ctrl S", "save with the series"], ["Esc", "leave the mark, the shape, the tool"],
];

/** Whether a key was used. */
export function markKey(plugin, event) {
  const { viewer } = plugin;
  if (event.ctrlKey || event.metaKey) return markCommand(plugin, event);
  if (event.altKey || !event.target.matches(".dl-pane-canvas")) return event.key === "Escape" && markEscape(plugin);
  const chosen = plugin.chosen && plugin.find(plugin.chosen.id);
  if (event.key === "Escape") return markEscape(plugin);
  if (event.key === "Tab") return markTab(plugin, event.shiftKey);
  if (event.key === "Enter") return markEnter(plugin, chosen);
  if (chosen && markChosenKey(plugin, event, chosen)) return true;
  if (event.shiftKey) return false;
  if ([",", "."].includes(event.key) && ["brush", "erase"].includes(viewer.get("tool"))) {
    plugin.setRadius(viewer.get("brush_mm") * (event.key === "." ? 1.25 : 0.8));
    return true;
  }
  if (event.key === "k") plugin.toggleKey();
  else if (event.key === "l") plugin.panel.toggle();
  else if (MARK_TOOL_KEYS[event.key]) markUse(plugin, MARK_TOOL_KEYS[event.key]);
  else return false;
  return true;
}

function markUse(plugin, tool) {
  plugin.useTool(tool);
  plugin.viewer.announce(MARK_TOOLS[tool]?.title || { brush: "Brush", erase: "Eraser", browse: "Browse" }[tool]);
}

function markCommand(plugin, event) {
  const key = event.key.toLowerCase();
  if (key === "z") plugin.replay(event.shiftKey ? "redo" : "undo");
  else if (key === "y") plugin.replay("redo");
  else if (key === "s") plugin.save();
  else return false;
  return true;
}

/** Leave one thing after the other: what is being drawn, the chosen mark, the tool. */
function markEscape(plugin) {
  if (plugin.hand.drop()) return true;
  if (plugin.chosen) plugin.choose(null);
  else if (MARK_TOOLS[plugin.viewer.get("tool")] || ["brush", "erase"].includes(plugin.viewer.get("tool"))) markUse(plugin, "browse");
  else return false;
  return true;
}

/** The next mark of the pane; after the last one the focus goes on. */
function markTab(plugin, back) {
  const pane = plugin.viewer.active;
  const ids = pane ? plugin.on(pane).map((mark) => mark.id) : [];
  const at = ids.indexOf(plugin.chosen?.id);
  const next = at < 0 ? (back ? ids.length - 1 : 0) : at + (back ? -1 : 1);
  if (at < 0 && back) return false; // the focus came from behind, and goes back there
  if (next < 0 || next >= ids.length) {
    plugin.choose(null);
    return false;
  }
  plugin.choose(ids[next]);
  const mark = plugin.find(ids[next]);
  plugin.viewer.announce(`${mark.name}, ${next + 1} of ${ids.length}`);
  return true;
}

function markEnter(plugin, chosen) {
  const { viewer } = plugin;
  if (plugin.hand.close()) return true;
  if (chosen) {
    plugin.editName(chosen.id);
    return true;
  }
  const tool = viewer.get("tool");
  const pane = viewer.active;
  if (!MARK_TOOLS[tool] && !["brush", "erase"].includes(tool)) return false;
  if (!plugin.canDraw(pane)) return true;
  if (MARK_TOOLS[tool]) {
    const mark = { ...plugin.place(pane), tool, points: markAt(tool, ...pane.cross, pane.meta) };
    plugin.hand.finish({ mark, pane });
  } else markDab(plugin, pane, tool);
  return true;
}

/** Paint once at the crosshair. */
function markDab(plugin, pane, tool) {
  const { viewer } = plugin;
  const label = tool === "brush" ? viewer.get("mask_label") : 0;
  viewer.saver.flush();
  const stroke = new BrushStroke(plugin.store, pane, label, viewer.get("brush_mm"));
  if (!stroke.entry) return;
  stroke.to(...pane.cross);
  viewer.redraw();
  stroke.end().catch((failure) => viewer.frame.showError(failure.message));
  viewer.announce(tool === "brush" ? "Painted" : "Erased");
}

function markChosenKey(plugin, event, mark) {
  const pane = plugin.viewer.active;
  if (event.key === "Delete" || event.key === "Backspace") plugin.remove(mark.id);
  else if (event.key === "p" && !event.shiftKey) plugin.fill(mark.id);
  else if (event.key === " ") markNextHandle(plugin, mark);
  else if (MARK_ARROWS[event.key] && pane?.name === mark.plane) markMove(plugin, event, mark, pane);
  else return false;
  return true;
}

function markNextHandle(plugin, mark) {
  const count = markHandles(mark).length;
  const now = plugin.chosen.handle;
  const next = now === null ? (count ? 0 : null) : now + 1 < count ? now + 1 : null;
  plugin.choose(mark.id, next);
  plugin.viewer.announce(next === null ? "Whole mark" : `Handle ${next + 1} of ${count}`);
}

/** One pixel in the direction that the arrow has on the screen, however the image is turned. */
function markMove(plugin, event, mark, pane) {
  const [x, y] = MARK_ARROWS[event.key];
  const steps = event.shiftKey ? 10 : 1;
  const [row, col] = markStep(pane, x, y).map((v) => v * steps);
  const { handle } = plugin.chosen;
  if (handle === null) return plugin.nudge(mark, markShifted(mark.points, row, col, pane.meta));
  const one = markHandles(mark)[handle];
  return plugin.nudge(mark, one.moved(mark.points, markPlace(one.at[0] + row, one.at[1] + col, pane.meta)));
}

function markStep(pane, x, y) {
  const m = pane.imageToCanvas;
  const ways = [[1, 0], [-1, 0], [0, 1], [0, -1]];
  const along = ([row, col]) => {
    const [dx, dy] = [m.a * col + m.c * row, m.b * col + m.d * row];
    return (dx * x + dy * y) / Math.hypot(dx, dy);
  };
  return ways.reduce((best, way) => (along(way) > along(best) ? way : best));
}
