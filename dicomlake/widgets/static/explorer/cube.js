// What is under a brush, from sums that Python sent once: one row less another.

import { typed } from "../base/link.js";

/** The cube of one facet: see cube.py. */
export class ExCube {
  constructor(data, buffer) {
    this.facet = data.facet;
    this.revision = data.revision;
    this.places = data.places; // [{name, offset, size}]
    this.width = data.width;
    this.sums = typed(buffer, Uint32Array);
  }

  /** Ask for it; null when it failed or the query has moved on. */
  static async of(app, facet) {
    const answer = await app.ask("cube", { facet }, "cube");
    if (!answer || answer.data.query !== app.state.query) return null;
    return new ExCube(answer.data, answer.buffers[0]);
  }

  /** Counts under bins [from, to), with series without a value if `missing`: series, and by facet. */
  under([from, to], missing) {
    const { sums, width } = this;
    const [high, low] = [(to + 1) * width, (from + 1) * width];
    const row = new Array(width);
    for (let i = 0; i < width; i++) row[i] = sums[high + i] - sums[low + i] + (missing ? sums[i] : 0);
    const facets = new Map(this.places.map(({ name, offset, size }) => [name, row.slice(offset, offset + size)]));
    return { series: row[0], facets };
  }
}
