// Words of the monitor: numbers, times, states, kinds of events.

export const STATES = {
  arriving: ["↓", "arriving"],
  settling: ["⋯", "settling"],
  building: ["⚙\uFE0E", "building"],
  ready: ["✓", "ready"],
  failed: ["✕", "failed"],
};

const KIND_WORDS = {
  association_opened: "association opened",
  association_closed: "association closed",
  association_refused: "association refused",
  stored: "stored",
  already: "was there already",
  conflict: "conflict",
  object_refused: "object refused",
  series_settled: "series settled",
  series_ready: "series ready",
  study_ready: "study ready",
  settle_failed: "not settled",
  volume_failed: "volume not built",
  commitment_requested: "commitment requested",
  commitment_reported: "commitment reported",
  commitment_failed: "commitment failed",
  disk_low: "disk low",
  webhook_failed: "webhook failed",
  webhook_dropped: "webhook dropped",
  started: "receiver started",
  stopped: "receiver stopped",
};

/** What an event or a failure is, in words. */
export function kindWords(kind) {
  return Object.hasOwn(KIND_WORDS, kind) ? KIND_WORDS[kind] : String(kind).replaceAll("_", " ");
}

/** "1 study", "2 studies". */
export function countOf(number, one, many = `${one}s`) {
  return `${Number(number).toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Bytes, for people: 1.2 TB. */
export function sizeWords(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${value.toFixed(unit === "B" || value >= 100 ? 0 : 1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

/** A rate with one digit where it is small. */
export function rateWords(value) {
  return value >= 100 || value === 0 ? value.toFixed(0) : value.toFixed(1);
}

/** The time of day of an ISO time; with the day where that is not today. */
export function clockWords(at) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "";
  const clock = time.toLocaleTimeString("en-GB");
  if (time.toDateString() === new Date().toDateString()) return clock;
  return `${time.toLocaleDateString("sv")} ${clock}`;
}

/** Gaps in instance numbers: "12–15, 30". */
export function gapWords(gaps, most = 4) {
  const words = gaps.slice(0, most).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return words.join(", ") + (gaps.length > most ? ` and ${gaps.length - most} more` : "");
}

/** What is missing of a series, in words; empty when nothing is known to be. */
export function missingWords(row) {
  const words = [];
  if (row.missing) words.push(row.missing.toLocaleString("en"));
  if (Array.isArray(row.gaps) ? row.gaps.length : row.gaps)
    words.push(Array.isArray(row.gaps) ? `no. ${gapWords(row.gaps)}` : countOf(row.gaps, "gap"));
  return words.join("; ");
}
