// One row of the tree as elements.
import { el } from "../base/dom.js";
import { countText, dateText, nameText, shapeText, sizeText, verdictOf } from "./words.js";

export const ROW_HEIGHT = 42;
const MOST_LABEL = 40; // characters of a label in a row
const SEVERITIES = { error: ["✕", "bad"], warning: ["⚠", "warn"], info: ["ℹ", "plain"] };

/** A small mark of a symbol and a word; colour is never all that it says. */
export function badge(symbol, word, tone, title = "") {
  return el("span", { class: `dl-br-badge dl-br-badge-${tone}`, title }, el("span", { "aria-hidden": "true" }, symbol), ` ${word}`);
}

/** What a row is called, for typing ahead and for screen readers. */
export function rowLabel(level, row) {
  if (level === "patients") return nameText(row.PatientName) || row.PatientID || "no name";
  if (level === "studies") return `${dateText(row.StudyDate) || "no date"} ${row.StudyDescription || ""}`.trim();
  return row.SeriesDescription || row.BodyPartExamined || `series ${row.SeriesNumber ?? ""}`;
}

/** The inside of a row. picture: a URL, "" or undefined. */
export function rowInside(level, row, picture) {
  if (level === "patients") return patientInside(row);
  return level === "studies" ? studyInside(row) : seriesInside(row, picture);
}

function lines(first, second) {
  return el("span", { class: "dl-br-lines" }, el("span", { class: "dl-br-line" }, first), el("span", { class: "dl-br-line dl-muted" }, second));
}

function patientInside(row) {
  const about = [row.PatientID, row.PatientSex, row.PatientBirthDate && `born ${dateText(row.PatientBirthDate)}`];
  const count = `${countText(row.children, "study", "studies")}, ${countText(row.series, "series", "series")}`;
  return [
    lines(el("strong", {}, rowLabel("patients", row)), about.filter(Boolean).join(" · ")),
    el("span", { class: "dl-br-end dl-muted" }, `${count} · ${sizeText(row.bytes)}`),
  ];
}

function studyInside(row) {
  const about = [row.modalities, row.AccessionNumber && `accession ${row.AccessionNumber}`];
  return [
    lines(rowLabel("studies", row), about.filter(Boolean).join(" · ")),
    el("span", { class: "dl-br-end dl-muted" }, `${countText(row.series, "series", "series")} · ${sizeText(row.bytes)}`),
  ];
}

function seriesInside(row, picture) {
  const about = [row.SeriesNumber !== null && `#${row.SeriesNumber}`, countText(row.instances, "instance"), shapeText(row.volumes), sizeText(row.bytes)];
  return [
    thumb(row, picture),
    el("span", { class: "dl-br-modality" }, row.Modality || "?"),
    lines(rowLabel("series", row), about.filter(Boolean).join(" · ")),
    el("span", { class: "dl-br-end dl-br-badges" }, seriesBadges(row)),
  ];
}

function thumb(row, picture) {
  if (picture) return el("img", { class: "dl-br-thumb", src: picture, alt: "", draggable: false });
  return el("span", { class: "dl-br-thumb dl-br-thumb-none", "aria-hidden": "true" }, picture === "" ? thumbSign(row.Modality) : "…");
}

function thumbSign(modality) {
  return { SR: "☰", KO: "★", PR: "✎", DOC: "▤", SEG: "◩", RTSTRUCT: "◌", RTPLAN: "✣", REG: "⇄" }[modality] || "▢";
}

function seriesBadges(row) {
  const verdict = verdictOf(row.volumes);
  const badges = verdict ? [badge(verdict.symbol, verdict.word, verdict.tone, verdict.title)] : [];
  for (const [severity, count] of Object.entries(row.findings || {})) {
    const [symbol, tone] = SEVERITIES[severity] || ["?", "plain"];
    badges.push(badge(symbol, countText(count, severity === "info" ? "remark" : severity), tone, "see Details"));
  }
  if (row.conflicts) badges.push(badge("⇆", countText(row.conflicts, "conflict"), "warn", "other objects with the same UID"));
  return [...badges, ...(row.labels || []).map((label) => labelBadge(label, MOST_LABEL))];
}

/** A label as a chip: its beginning, the whole text as the title. most: characters. */
export function labelBadge({ level, name, text }, most = Infinity) {
  const whole = text === null ? "marks" : `${name}: ${text}`; // what a viewer saved is not for reading
  const short = whole.length > most ? `${whole.slice(0, most - 1)}…` : whole;
  const title = text === null ? `${name}, label of the ${level}` : `${whole} (label of the ${level})`;
  return badge("⚑", short, "label", title);
}
