// Which of very many items are selected, as runs of indexes.

export class SheetSelection {
  constructor(model, saver) {
    this.model = model;
    this.saver = saver;
    this.anchor = 0;
  }

  runs() {
    return this.model.get("runs");
  }

  has(i) {
    return this.runs().some(([first, last]) => first <= i && i <= last);
  }

  size() {
    return this.runs().reduce((sum, [first, last]) => sum + last - first + 1, 0);
  }

  set(runs) {
    this.saver.set({ runs });
  }

  only(i) {
    this.anchor = i;
    this.set([[i, i]]);
  }

  toggle(i) {
    this.anchor = i;
    this.set(this.has(i) ? withoutRun(this.runs(), i) : joinedRuns([...this.runs(), [i, i]]));
  }

  /** From where the last was chosen to here. */
  extend(i, from = this.anchor) {
    if (!this.size()) this.anchor = from;
    this.set([[Math.min(this.anchor, i), Math.max(this.anchor, i)]]);
  }
}

/** Runs in order, those that touch as one. */
export function joinedRuns(runs) {
  const found = [];
  for (const [first, last] of [...runs].sort((a, b) => a[0] - b[0])) {
    const before = found[found.length - 1];
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else found.push([first, last]);
  }
  return found;
}

/** Runs without one index. */
export function withoutRun(runs, i) {
  return runs.flatMap(([first, last]) => {
    if (i < first || i > last) return [[first, last]];
    return [[first, i - 1], [i + 1, last]].filter(([a, b]) => a <= b);
  });
}
