// What is chosen, by places in the list: ranges go to Python, which keeps series.

/** Places as ranges [from, to), ascending. */
export function rangesOf(places) {
  const ranges = [];
  for (const place of [...places].sort((a, b) => a - b)) {
    const last = ranges[ranges.length - 1];
    if (last && last[1] === place) last[1] = place + 1;
    else ranges.push([place, place + 1]);
  }
  return ranges;
}

/** Whether all series of a row are chosen. */
export function isChosen(chosen, row) {
  if (chosen.all) return chosen.same;
  if (row.series > chosen.places.size) return false;
  for (let place = row.first; place < row.first + row.series; place += 1) if (!chosen.places.has(place)) return false;
  return true;
}

/** The ranges to choose for a click on a row. anchor: the row of the last plain click. */
export function chosenBy(chosen, row, anchor, { shift, toggle }) {
  const own = [row.first, row.first + row.series];
  if (shift && anchor) {
    const other = [anchor.first, anchor.first + anchor.series];
    return [[Math.min(own[0], other[0]), Math.max(own[1], other[1])]];
  }
  if (!toggle || chosen.all) return [own];
  const ranges = rangesOf(chosen.places);
  if (!isChosen(chosen, row)) return merged([...ranges, own]);
  return ranges.flatMap(([from, to]) => [
    [from, Math.min(to, own[0])],
    [Math.max(from, own[1]), to],
  ]).filter(([from, to]) => from < to);
}

function merged(ranges) {
  const sorted = ranges.sort((a, b) => a[0] - b[0]);
  const found = [];
  for (const [from, to] of sorted) {
    const last = found[found.length - 1];
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else found.push([from, to]);
  }
  return found;
}
