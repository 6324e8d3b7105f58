// The tree as numbers: which row stands where, whichever branches are open; rows come in pages.

export const PAGE_ROWS = 100;
const BELOW = { lake: "patients", patients: "studies", studies: "series" };

/** One branch: the lake, a patient or a study. Its children are known by index; only open ones are branches. */
export class Branch {
  constructor(level, of, count, parent = null, index = 0) {
    Object.assign(this, { level, of, count, parent, index });
    this.below = BELOW[level]; // the level of its children
    this.rows = new Map(); // index -> row
    this.asked = new Set(); // pages
    this.open = []; // branches among the children, by index
    this.visible = count; // rows below, those of open children included
  }

  /** Open a child, a row of patients or studies; closing is `close`. */
  expand(index, row) {
    if (this.child(index)) return this.child(index);
    const branch = new Branch(this.below, row.at, row.children, this, index);
    this.open.push(branch);
    this.open.sort((a, b) => a.index - b.index);
    this.grow(branch.visible);
    return branch;
  }

  close(index) {
    const branch = this.child(index);
    if (!branch) return;
    this.open = this.open.filter((one) => one !== branch);
    this.grow(-branch.visible);
  }

  child(index) {
    return this.open.find((one) => one.index === index) || null;
  }

  grow(count) {
    for (let one = this; one; one = one.parent) one.visible += count;
  }

  /** The row at a place among all visible ones: {branch, index, depth}. */
  at(place, depth = 1) {
    let before = 0; // rows below open children passed so far
    for (const one of this.open) {
      if (place <= one.index + before) break;
      if (place <= one.index + before + one.visible) return one.at(place - one.index - before - 1, depth + 1);
      before += one.visible;
    }
    return { branch: this, index: place - before, depth };
  }

  /** Where a child stands among all visible rows. */
  placeOf(index) {
    let place = index;
    for (const one of this.open) if (one.index < index) place += one.visible;
    return this.parent ? this.parent.placeOf(this.index) + 1 + place : place;
  }
}
