// What is shown once an answer is confirmed.

import { el } from "../base/dom.js";

/** revealed: {answer, truth, correct, decided, distance_mm, within_mm, report}. judge(correct) is called by the reader. */
export function revealedPanel(revealed, kind, judge) {
  const { correct } = revealed;
  const state = correct === null ? "open" : correct ? "right" : "wrong";
  const verdict = el("div", { class: `dl-quiz-verdict dl-quiz-${state}`, tabindex: "-1" }, verdictText(revealed, kind));
  return el("div", {}, verdict, revealed.decided ? null : judging(correct, judge), reportPart(revealed.report));
}

function verdictText({ correct, truth, distance_mm: mm, within_mm: within }, kind) {
  if (correct === null) return "? Compare with what was reported. Were you right?";
  const sign = correct ? "✓ Right" : "✗ Wrong";
  if (kind === "mark") return `${sign}: ${placeText(correct, truth, mm, within)}`;
  return truth ? `${sign}: ${truth}` : sign;
}

function placeText(correct, truth, mm, within) {
  if (truth === "nothing") return "there is nothing to mark";
  const name = truth || "it";
  if (mm === null) return correct ? `inside ${name}` : `${name} lies elsewhere: see the overlay`;
  if (mm === 0) return `inside ${name}`;
  return `${mm.toFixed(1)} mm from ${name} (up to ${within} mm count)`;
}

function judging(correct, judge) {
  const button = (value, text) =>
    el("button", { "aria-pressed": String(correct === value), onclick: () => judge(value) }, text);
  return el("div", { class: "dl-row", role: "group", "aria-label": "Were you right?" }, button(true, "I was right"), button(false, "I was wrong"));
}

function reportPart(report) {
  if (!report) return null;
  return el("details", { class: "dl-quiz-report", open: true }, el("summary", {}, "Report"), el("div", {}, report));
}
