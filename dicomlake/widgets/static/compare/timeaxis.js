// A true time axis: one marker a study, in days from the first.

import { el } from "../base/dom.js";

const TICKS = [[1, "day"], [7, "week"], [30.4375, "month"], [91.3125, "quarter"], [365.25, "year"], [1826.25, "5 years"]];
const MOST_TICKS = 12;

/** "day 0", "+93 days", "no date". */
export function dayWords(day) {
  if (day === null || day === undefined) return "no date";
  return day === 0 ? "day 0" : `+${day.toLocaleString("en")} ${day === 1 ? "day" : "days"}`;
}

/** Where each study stands, 0 … 1; those without a date stand behind the others. */
export function positionsOf(days) {
  const span = Math.max(1, ...days.filter((day) => day !== null));
  const undated = days.filter((day) => day === null).length;
  const room = undated ? 0.85 : 1;
  let behind = 0;
  return days.map((day) => (day === null ? room + ((behind += 1) * (1 - room)) / undated : (day / span) * room));
}

export class TimeAxis {
  /** choose(study): called when one is picked. */
  constructor(studies, choose) {
    this.days = studies.map((study) => study.day ?? null);
    this.scores = studies.map((study) => study.score);
    this.choose = choose;
    this.el = el("div", { class: "dl-timeaxis", role: "slider", tabindex: "0", "aria-label": "Studies over time", "aria-valuemin": "1", "aria-valuemax": String(studies.length) });
    this.line = el("div", { class: "dl-timeaxis-line" });
    this.el.append(this.line, ...this.ticks(), ...(this.markers = this.makeMarkers()));
  }

  makeMarkers() {
    const at = positionsOf(this.days);
    return this.days.map((day, study) => {
      const words = `Study ${study + 1} of ${this.days.length}, ${dayWords(day)}${this.scores[study] ? "" : ", no series like it"}`;
      const marker = el("button", { type: "button", tabindex: "-1", class: "dl-timeaxis-marker", title: words, "aria-label": words, "data-study": String(study) });
      marker.style.left = `${at[study] * 100}%`;
      marker.classList.toggle("dl-timeaxis-unlike", !this.scores[study]);
      marker.addEventListener("click", () => this.choose(study));
      return marker;
    });
  }

  ticks() {
    const dated = this.days.filter((day) => day !== null);
    const span = Math.max(1, ...dated);
    const [length, name] = TICKS.find(([days]) => span / days <= MOST_TICKS) || TICKS[TICKS.length - 1];
    const room = dated.length < this.days.length ? 0.85 : 1;
    const found = [];
    for (let i = 0; i * length <= span; i++) {
      const tick = el("span", { class: "dl-timeaxis-tick", "aria-hidden": "true" }, i === 0 ? "first" : tickWords(i, name));
      tick.style.left = `${((i * length) / span) * room * 100}%`;
      found.push(tick);
    }
    return found;
  }

  show(study) {
    this.markers.forEach((marker, i) => marker.classList.toggle("dl-timeaxis-at", i === study));
    this.el.setAttribute("aria-valuenow", String(study + 1));
    this.el.setAttribute("aria-valuetext", `Study ${study + 1} of ${this.days.length}, ${dayWords(this.days[study])}`);
  }
}

function tickWords(i, name) {
  if (name === "quarter") return `${3 * i} mo`;
  if (name === "5 years") return `${5 * i} y`;
  return `${i} ${{ day: "d", week: "wk", month: "mo", year: "y" }[name]}`;
}
