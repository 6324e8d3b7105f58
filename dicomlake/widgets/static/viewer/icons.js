// Icons of the tool bar, drawn as lines on a 16 x 16 grid.

const SHAPES = {
  one: "M2.5 2.5h11v11h-11z",
  mpr: "M2.5 2.5h11v11h-11zM9.5 2.5v11M9.5 8h4",
  oblique: "M2.5 2.5h11v11h-11zM8 2.5v11M2.5 8h11M9.5 13l3.5-4",
  browse: "M4 2.5v9l2.4-2.2 1.6 3.9 1.7-.7-1.6-3.8H11.4z",
  window: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11zM8 2.5v11M8 4h3M8 6h5M8 8h5.5M8 10h5M8 12h3",
  pan: "M8 1.5v13M1.5 8h13M6 3.5l2-2 2 2M6 12.5l2 2 2-2M3.5 6l-2 2 2 2M12.5 6l2 2-2 2",
  zoom: "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9zM10.3 10.3l3.7 3.7M5 7h4M7 5v4",
  invert: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  flip_h: "M8 1.5v13M6 4v8H1.5zM10 4v8h4.5z",
  flip_v: "M1.5 8h13M4 6h8V1.5zM4 10h8v4.5z",
  rotate: "M12.8 9.5A5 5 0 1 1 11.6 4.6L13.5 6.5M13.5 2.8v3.7H9.8",
  reset: "M3.2 6.5A5 5 0 1 1 3 9M3 2.8v3.9h3.9",
  play: "M4.5 2.5l8.5 5.5-8.5 5.5z",
  stop: "M4 4h8v8H4z",
  help: "M5.5 6a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.8-1.1 1.8M8 12.4v.8",
  cross: "M8 1.5v4M8 10.5v4M1.5 8h4M10.5 8h4M8 8h.01",
  picture: "M2.5 4.5h3l1-1.5h3l1 1.5h3v8h-11zM8 6.5a2 2 0 1 0 0 4a2 2 0 1 0 0-4z",
};
const FILLED = new Set(["play", "stop"]);

/** An inline SVG that text stands beside or that a label describes. */
export function viewerIcon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[name]);
  path.setAttribute("fill", FILLED.has(name) ? "currentColor" : "none");
  path.setAttribute("stroke", "currentColor");
  path.setAttribute("stroke-width", "1.4");
  path.setAttribute("stroke-linejoin", "round");
  path.setAttribute("stroke-linecap", "round");
  svg.append(path);
  return svg;
}
