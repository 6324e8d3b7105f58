// How values of a catalog are written for people.

const VERDICTS = {
  regular: ["✓", "regular", "good"],
  sheared: ["▱", "tilted", "warn"],
  missing_slices: ["▤", "gap", "bad"],
  irregular: ["≋", "irregular", "warn"],
  plane_set: ["▦", "plane set", "plain"],
  none: ["–", "no geometry", "plain"],
};
const GRAVE = ["missing_slices", "irregular", "sheared", "plane_set", "none", "regular"];

/** 20240315 -> 2024-03-15; what is no date stays. */
export function dateText(value) {
  const text = String(value || "");
  return /^\d{8}$/.test(text) ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : text;
}

/** Doe^Jane^^Dr -> "Doe, Jane Dr"; other writings of the name in brackets. */
export function nameText(value) {
  const groups = String(value || "").split("=").map((group) => {
    const [family, ...others] = group.split("^");
    const rest = others.filter(Boolean).join(" ");
    return rest ? `${family}, ${rest}` : family;
  });
  const others = groups.slice(1).filter(Boolean);
  return others.length ? `${groups[0]} (${others.join(", ")})` : groups[0];
}

/** Bytes with a unit of SI. */
export function sizeText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = Number(bytes) || 0;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** "1 study", "2 studies". */
export function countText(count, one, many = `${one}s`) {
  return `${Number(count).toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** What is worst about the volumes of a series: {symbol, word, tone, title}, or null without volumes. */
export function verdictOf(volumes) {
  if (!volumes || !volumes.length) return null;
  const failed = volumes.find((one) => !one.built);
  const more = volumes.length > 1 ? ` · ${volumes.length} volumes` : "";
  if (failed) return { symbol: "✕", word: `not built${more}`, tone: "bad", title: failed.reason };
  const worst = [...volumes].sort((a, b) => GRAVE.indexOf(a.verdict) - GRAVE.indexOf(b.verdict))[0];
  const [symbol, word, tone] = VERDICTS[worst.verdict] || ["?", worst.verdict, "plain"];
  const missing = worst.missing ? `: ${countText(worst.missing, "slice")} missing` : "";
  return { symbol, word: `${word}${missing}${more}`, tone, title: worst.reason };
}

/** The shape of the largest volume, "40 × 512 × 512". */
export function shapeText(volumes) {
  if (!volumes || !volumes.length) return "";
  const size = (one) => one.shape.reduce((a, b) => a * b, 1);
  return [...volumes].sort((a, b) => size(b) - size(a))[0].shape.join(" × ");
}
