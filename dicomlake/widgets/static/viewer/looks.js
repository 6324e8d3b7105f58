// How values are shown: the window, its preset, the colour map, as traits say it; numbers as text.

import { ColorTable } from "./lut.js";

/** The preset whose name the trait holds, or null. */
export const presetOf = (get) => (get("stack").presets || []).find((one) => one.name === get("preset")) || null;

/** {center, width, shape, lut, colormap, inverted} of the traits. */
export function lookOf(get) {
  const [center, width] = get("window");
  const preset = presetOf(get);
  const shape = get("voi_shape");
  const inverted = Boolean(get("invert")) !== Boolean(get("stack").inverted);
  return { center, width, shape, lut: shape === "lut" ? preset?.lut : null, colormap: get("colormap"), inverted };
}

/** Makes the colour table of a look, and keeps the newest one; `made` changes when the table does. */
export class Looks {
  constructor(get) {
    this.get = get;
    this.key = "";
  }

  /** The table for what the traits say now. */
  table() {
    const look = lookOf(this.get);
    const { kind, slope, intercept } = this.get("stack");
    const key = JSON.stringify([look, kind, slope, intercept, this.get("preset")]);
    if (key !== this.key) {
      this.key = key;
      this.made = new ColorTable(this.get("stack"), look);
    }
    return this.made;
  }
}

/** The traits that choose a preset. */
export function presetTraits(preset) {
  return { window: [preset.center, preset.width], voi_shape: preset.shape, preset: preset.name };
}

/** The traits of a window set by hand: a table has no centre and width, so it becomes a line. */
export function windowTraits(get, center, width) {
  const shape = get("voi_shape") === "lut" ? "linear_exact" : get("voi_shape");
  const least = shape === "linear" ? 1 : (Math.abs(get("stack").slope) || 1) * 1e-3;
  return { window: [tidy(center), tidy(Math.max(width, least))], voi_shape: shape, preset: "" };
}

const tidy = (value) => Number(value.toPrecision(6));

/** A value in units: whole where whole, four digits else. */
export function valueText(value, units) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return `RGB ${value.join(" ")}`;
  if (Number.isNaN(value)) return "no value";
  const number = Number.isInteger(value) ? String(value) : numberText(value);
  return units ? `${number} ${units}` : number;
}

/** A number with four digits, without trailing zeros. */
export function numberText(value) {
  const size = Math.abs(value);
  if (size >= 1000) return String(Math.round(value));
  return String(Number(value.toPrecision(4)));
}
