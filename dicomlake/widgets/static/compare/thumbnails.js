// Thumbnails that came from Python: asked for in batches, few batches at once, the oldest forgotten.

const BATCH = 24; // what Python answers at once
const IN_FLIGHT = 2;
const MOST_KEPT = 1500;

export class ThumbnailStore {
  constructor(link, came, failed) {
    Object.assign(this, { link, came, failed, tiles: new Map(), asked: new Set(), wanted: [], open: 0, round: 0 });
  }

  has(i) {
    return this.tiles.has(i);
  }

  /** {caption, url, failed} of an item, or undefined; what is looked at is kept longest. */
  get(i) {
    const tile = this.tiles.get(i);
    if (tile) {
      this.tiles.delete(i);
      this.tiles.set(i, tile);
    }
    return tile;
  }

  /** These are seen now: what was wanted before and did not go out yet is not asked for any more. */
  want(items) {
    this.wanted = items.filter((i) => !this.tiles.has(i));
    this.next();
  }

  next() {
    while (this.open < IN_FLIGHT) {
      const batch = this.wanted.filter((i) => !this.asked.has(i) && !this.tiles.has(i)).slice(0, BATCH);
      if (!batch.length) return;
      this.fetch(batch);
    }
  }

  async fetch(batch) {
    const { round } = this;
    this.open += 1;
    for (const i of batch) this.asked.add(i);
    try {
      const { data, buffers } = await this.link.ask("thumbnails", { items: batch });
      if (round === this.round) data.tiles.forEach((tile, k) => this.keep(tile, buffers[k]));
    } catch (failure) {
      if (round === this.round) for (const i of batch) this.keep({ i, caption: "", failed: failure.message });
      this.failed(failure.message);
    }
    if (round !== this.round) return;
    for (const i of batch) this.asked.delete(i);
    this.open -= 1;
    this.next();
    this.came();
  }

  keep(tile, buffer) {
    const url = buffer && buffer.byteLength ? URL.createObjectURL(new Blob([buffer], { type: "image/png" })) : "";
    this.tiles.set(tile.i, { ...tile, url });
    while (this.tiles.size > MOST_KEPT) this.drop(this.tiles.keys().next().value);
  }

  drop(i) {
    const tile = this.tiles.get(i);
    if (tile && tile.url) URL.revokeObjectURL(tile.url);
    this.tiles.delete(i);
  }

  /** Everything is asked for again; what is under way is not taken. */
  clear() {
    for (const i of [...this.tiles.keys()]) this.drop(i);
    this.round += 1;
    Object.assign(this, { open: 0, wanted: [] });
    this.asked.clear();
  }

  dispose() {
    this.clear();
  }
}
