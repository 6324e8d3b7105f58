// Numbers, dates and colours as the explorer writes them.

/** A count with separators. */
export function exNumber(count) {
  return count.toLocaleString("en-US");
}

/** "1 study", "2 studies". */
export function exCount(count, one, many, about = "") {
  return `${about}${exNumber(count)} ${count === 1 ? one : many}`;
}

/** A count in little space: 12.3k, 1.04M. */
export function exShort(count) {
  if (count < 10000) return exNumber(count);
  if (count < 999500) return `${(count / 1000).toPrecision(3).replace(/\.0+$/, "")}k`;
  return `${(count / 1e6).toPrecision(3)}M`;
}

/** A number on an axis. */
export function exTick(value) {
  if (Math.abs(value) >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (Math.abs(value) >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return String(+value.toPrecision(5));
}

/** A name of a facet with its words apart: "ManufacturerModelName" is "Manufacturer Model Name". */
export function exWords(name) {
  if (/[^A-Za-z.]/.test(name) || !/^[A-Z]/.test(name)) return name;
  return name.replace(/([a-z])([A-Z])/g, "$1 $2").replace(/([A-Z]+)([A-Z][a-z])/g, "$1 $2");
}

/** The colours of the theme, for canvases. */
export function exColours(node) {
  const style = getComputedStyle(node);
  const of = (name) => style.getPropertyValue(name).trim();
  return { ink: of("--dl-ink"), dim: of("--dl-ink-2"), line: of("--dl-line"), all: of("--dl-ex-all"), now: of("--dl-ex-now") };
}
