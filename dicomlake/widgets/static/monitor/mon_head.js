// The head line of the monitor: who receives, how fast, how much room is left.
import { el } from "../base/dom.js";
import { setText } from "./mon_rows.js";
import { clockWords, countOf, rateWords, sizeWords } from "./mon_words.js";

const SVG = "http://www.w3.org/2000/svg";
const SPARK = { width: 120, height: 26 };

/** The head; update(row) shows it. */
export function monitorHead() {
  const parts = { who: el("div", { class: "dl-mon-who" }), queue: el("span", { class: "dl-muted" }) };
  const rates = rateBlock();
  const room = diskBlock();
  const node = el("div", { class: "dl-mon-head" }, el("div", { class: "dl-mon-block dl-mon-first" }, parts.who, parts.queue), rates.node, room.node);
  return {
    node,
    update(head) {
      showReceivers(parts.who, head);
      setText(parts.queue, queueWords(head));
      rates.update(head);
      room.update(head.disk);
    },
  };
}

function showReceivers(place, head) {
  const lines = head.receivers.map((one) => [one.ae_title, one.ports.length ? `${one.host}:${one.ports.join(", ")}` : one.host, one.associations, clockWords(one.since)]);
  const told = JSON.stringify(lines);
  if (place.dataset.told === told) return;
  place.dataset.told = told;
  const line = ([title, address, associations, since]) =>
    el(
      "div",
      { title: since ? `since ${since}` : null },
      el("span", { class: "dl-mon-dot", "data-on": "true", "aria-hidden": "true" }, "●"),
      " Receiving as ",
      el("strong", {}, title),
      " on ",
      el("span", { class: "dl-mon-address" }, address),
      el("span", { class: "dl-muted" }, ` · ${countOf(associations, "association")}`),
    );
  const none = el("div", {}, el("span", { class: "dl-mon-dot", "aria-hidden": "true" }, "○"), " No receiver runs");
  place.replaceChildren(...(lines.length ? lines.map(line) : [none]));
}

function queueWords(head) {
  const words = ["arriving", "settling", "building", "failed"]
    .filter((state) => head.queue[state])
    .map((state) => `${head.queue[state].toLocaleString("en")} ${state}`);
  const waits = head.commitments ? ` · ${countOf(head.commitments, "commitment")} to answer` : "";
  return `${words.length ? `Series: ${words.join(", ")}` : "Nothing waits"}${waits}`;
}

function rateBlock() {
  const objects = el("span", { class: "dl-mon-big" });
  const bytes = el("span", { class: "dl-mon-big" });
  const line = document.createElementNS(SVG, "path");
  const area = document.createElementNS(SVG, "path");
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, width: SPARK.width, height: SPARK.height, class: "dl-mon-spark", role: "img" })) svg.setAttribute(name, String(value));
  area.setAttribute("class", "dl-mon-spark-area");
  line.setAttribute("class", "dl-mon-spark-line");
  svg.append(area, line);
  const total = el("span", { class: "dl-muted" });
  const figures = el("div", {}, el("div", {}, objects, " objects/s · ", bytes, " MB/s"), total);
  const node = el("div", { class: "dl-mon-block dl-mon-rates", title: "Means over the last minute" }, figures, svg);
  return {
    node,
    update(head) {
      setText(objects, rateWords(head.objects_s));
      setText(bytes, rateWords(head.mb_s));
      setText(total, `last minute · ${countOf(head.objects, "object")} in all`);
      const shape = sparkPath(head.spark);
      line.setAttribute("d", shape.line);
      area.setAttribute("d", shape.area);
      svg.setAttribute("aria-label", `Objects a second over the last minute, at most ${rateWords(Math.max(0, ...head.spark))}`);
    },
  };
}

/** The paths of a sparkline: its line, and the area below. */
function sparkPath(values) {
  const most = Math.max(1, ...values);
  const step = SPARK.width / Math.max(1, values.length - 1);
  const points = values.map((value, place) => `${(place * step).toFixed(1)} ${(SPARK.height - 2 - (value / most) * (SPARK.height - 4)).toFixed(1)}`);
  const drawn = points.length ? `M${points.join("L")}` : "";
  return { line: drawn, area: drawn && `${drawn}L${SPARK.width} ${SPARK.height}L0 ${SPARK.height}Z` };
}

function diskBlock() {
  const text = el("span");
  const sign = el("span", { class: "dl-mon-symbol", "aria-hidden": "true" }, "⚠ ");
  const inner = el("div", { class: "dl-mon-bar-in" });
  const bar = el("div", { class: "dl-mon-bar", role: "meter", "aria-label": "Disk that is used", "aria-valuemin": "0", "aria-valuemax": "100" }, inner);
  const node = el("div", { class: "dl-mon-block dl-mon-disk" }, el("div", {}, sign, text), bar);
  return {
    node,
    update(disk) {
      node.hidden = !disk.total;
      if (!disk.total) return;
      const used = Math.round((1 - disk.free / disk.total) * 100);
      setText(text, `${disk.low ? "Disk low: " : "Disk: "}${sizeWords(disk.free)} free of ${sizeWords(disk.total)}`);
      sign.hidden = !disk.low;
      node.dataset.low = String(Boolean(disk.low));
      inner.style.width = `${used}%`;
      bar.setAttribute("aria-valuenow", String(used));
      bar.setAttribute("aria-valuetext", `${used} % used`);
    },
  };
}
