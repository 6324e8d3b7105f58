// From raw numbers to colours: the VOI function (PS3.3 C.11.2.1.2), the colour map, the pixels of a canvas.

import { colormapTable } from "./colormaps.js";

/** What a value (in units) is shown as, 0 to 1. look: {center, width, shape, lut}. */
export function voiFunction({ center: c, width: w, shape, lut }) {
  if (shape === "lut" && lut) return voiTable(lut);
  if (shape === "sigmoid") return (x) => 1 / (1 + Math.exp((-4 * (x - c)) / w));
  if (shape === "linear" && w >= 1) {
    const half = (w - 1) / 2;
    return (x) => (x <= c - 0.5 - half ? 0 : x > c - 0.5 + half ? 1 : (x - (c - 0.5)) / (w - 1) + 0.5);
  }
  return (x) => (x <= c - w / 2 ? 0 : x > c + w / 2 ? 1 : (x - c) / w + 0.5);
}

function voiTable(lut) {
  const values = lutValues(lut);
  const last = values.length - 1;
  return (x) => values[Math.min(Math.max(Math.floor((x - lut.first) / lut.step), 0), last)] / 255;
}

/** The brightness of a VOI LUT's entries, 0 to 255. */
function lutValues(lut) {
  return Uint8Array.from(atob(lut.values_base64), (c) => c.charCodeAt(0));
}

/** 0 to 1 as one of 256 colours, packed as a canvas wants it (little endian RGBA). */
function packedColors(name, inverted) {
  const table = colormapTable(name);
  const packed = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const at = 3 * (inverted ? 255 - i : i);
    packed[i] = (255 << 24) | (table[at + 2] << 16) | (table[at + 1] << 8) | table[at];
  }
  return packed;
}

/** What values a look tells apart, [low, high] in units: outside it nothing changes. */
function voiSpan({ center, width, shape, lut }) {
  if (shape === "lut" && lut) return [lut.first, lut.first + lut.step * lutValues(lut).length];
  const half = shape === "sigmoid" ? 2.5 * width : width / 2 + 0.5;
  return [center - half, center + half];
}

const FLOAT_STEPS = 8192;

/** The colours of all raw numbers. meta: the stack's. look: {center, width, shape, lut, colormap, inverted}. */
export class ColorTable {
  constructor(meta, look) {
    this.kind = meta.kind;
    this.inverted = look.inverted;
    this.packed = packedColors(look.colormap, look.inverted);
    const voi = voiFunction(look);
    const { slope, intercept } = meta;
    const color = (raw) => this.packed[Math.floor(voi(raw * slope + intercept) * 255 + 0.5)];
    if (this.kind === "float32") this.ofFloats(look, color, slope, intercept);
    else if (this.kind !== "rgb8") this.ofIntegers(color);
  }

  ofIntegers(color) {
    const signed = this.kind === "int16";
    this.table = new Uint32Array(this.kind === "uint8" ? 256 : 65536);
    for (let i = 0; i < this.table.length; i++) this.table[i] = color(signed && i > 32767 ? i - 65536 : i);
  }

  ofFloats(look, color, slope, intercept) {
    const [a, b] = voiSpan(look).map((value) => (value - intercept) / (slope || 1));
    this.low = Math.min(a, b);
    this.steps = (FLOAT_STEPS - 1) / (Math.abs(b - a) || 1);
    this.table = new Uint32Array(FLOAT_STEPS);
    for (let i = 0; i < FLOAT_STEPS; i++) this.table[i] = color(this.low + (i + 0.5) / this.steps);
  }

  /** Write the colours of a plane {data, preview} into an ImageData's pixels. */
  paint(plane, pixels) {
    if (this.kind === "rgb8") paintColors(plane.data, pixels, this.inverted);
    else if (plane.preview) paintByTable(plane.data, this.packed, pixels);
    else if (this.kind === "float32") this.paintFloats(plane.data, pixels);
    else paintByTable(plane.codes, this.table, pixels);
  }

  paintFloats(data, pixels) {
    const { low, steps, table } = this;
    for (let i = 0; i < data.length; i++) {
      const step = (data[i] - low) * steps; // not a number is none of these, and shown as the lowest
      pixels[i] = table[step > 0 ? (step < FLOAT_STEPS - 1 ? step | 0 : FLOAT_STEPS - 1) : 0];
    }
  }
}

function paintByTable(codes, table, pixels) {
  for (let i = 0; i < codes.length; i++) pixels[i] = table[codes[i]];
}

function paintColors(data, pixels, inverted) {
  const flip = inverted ? 0xffffff : 0;
  for (let i = 0, at = 0; at < data.length; i++, at += 3)
    pixels[i] = (255 << 24) | (((data[at + 2] << 16) | (data[at + 1] << 8) | data[at]) ^ flip);
}

const KIND_TYPES = {
  int16: Int16Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
  float32: Float32Array,
  rgb8: Uint8Array,
};
export const typeOfKind = (kind) => KIND_TYPES[kind];
