// The list of what was marked: values, jumps, names; and the labels of the mask.

import { el } from "../base/dom.js";
import { PLANE_TITLES } from "./pane.js";
import { markMain } from "./marks_draw.js";
import { markIcon } from "./marks_bar.js";
import { MARK_REGIONS } from "./marks_shapes.js";

/** {el, follow(), toggle(), isOpen()}. */
export function marksPanel(plugin) {
  return new MarksPanel(plugin);
}

class MarksPanel {
  constructor(plugin) {
    this.plugin = plugin;
    this.viewer = plugin.viewer;
    this.marks = el("tbody");
    this.none = el("p", { class: "dl-muted dl-marks-none" }, "Nothing is marked. Choose a tool above and draw on an image.");
    const head = el("tr", {}, ["Mark", "Plane", "Value", ""].map((text) => el("th", { scope: "col" }, text || el("span", { class: "dl-live" }, "Delete"))));
    this.table = el("table", { class: "dl-marks-table", "aria-label": "Marks" }, el("thead", {}, head), this.marks);
    this.details = el("div", { class: "dl-marks-details" });
    this.labels = el("div", { class: "dl-marks-labels" });
    this.measured = el("output", { class: "dl-marks-measured" });
    const add = el("button", { type: "button", onclick: () => this.addLabel() }, "Add a label");
    const measure = el("button", { type: "button", onclick: () => this.measure(), class: "dl-marks-measure" }, "Measure");
    const mask = el("section", { "aria-label": "Mask" }, el("h4", {}, "Mask"), this.labels, el("div", { class: "dl-row" }, add, measure), this.measured);
    this.el = el("div", { class: "dl-marks", hidden: true, role: "group", "aria-label": "Marks and mask" });
    this.el.append(el("section", {}, el("h4", {}, "Marks"), this.none, this.table, this.details), mask);
  }

  isOpen() {
    return !this.el.hidden;
  }

  toggle() {
    this.el.hidden = !this.el.hidden;
    this.follow(true);
    this.plugin.bar.follow();
  }

  follow(anew = false) {
    if (!this.isOpen()) return;
    const { plugin, viewer } = this;
    const chosen = plugin.chosen?.id || null;
    const shown = JSON.stringify([viewer.get("marks"), chosen, viewer.get("mask_labels"), viewer.get("mask_label")]);
    if (shown === this.shown && !anew) return;
    const typing = this.el.contains(document.activeElement) && document.activeElement.matches("input:not([type=radio])");
    if (typing && !anew) return;
    const kept = this.focusKept();
    this.shown = shown;
    const marks = viewer.get("marks");
    this.none.hidden = marks.length > 0;
    this.table.hidden = !marks.length;
    this.marks.replaceChildren(...marks.map((mark) => this.row(mark, mark.id === chosen)));
    const mark = marks.find((one) => one.id === chosen);
    this.details.replaceChildren(...(mark ? this.detailsOf(mark) : []));
    this.labels.replaceChildren(...viewer.get("mask_labels").map((label) => this.labelRow(label)));
    kept();
  }

  /** Rows are made anew: give the focus back to what stands for the one that had it. */
  focusKept() {
    const name = this.el.contains(document.activeElement) ? document.activeElement.dataset.dlName : null;
    return () => name && this.el.querySelector(`[data-dl-name="${name}"]`)?.focus({ preventScroll: true });
  }

  row(mark, isChosen) {
    const { plugin } = this;
    const plane = `${PLANE_TITLES[mark.plane] || mark.plane} ${mark.index + 1}`;
    const go = el(
      "button",
      { type: "button", class: "dl-marks-go", "data-dl-name": `go-${mark.id}`, title: `Show ${mark.name}`, onclick: () => plugin.jump(mark) },
      markIcon(mark.tool),
      el("span", {}, mark.name),
    );
    go.addEventListener("dblclick", () => plugin.editName(mark.id));
    const gone = el(
      "button",
      { type: "button", class: "dl-marks-gone", "data-dl-name": `gone-${mark.id}`, "aria-label": `Delete ${mark.name}`, title: `Delete ${mark.name}`, onclick: () => plugin.remove(mark.id) },
      "×",
    );
    const value = el("td", { class: "dl-marks-value" }, markMain(mark));
    return el("tr", { "aria-selected": String(isChosen), class: isChosen ? "dl-marks-chosen" : null }, el("td", {}, go), el("td", {}, plane), value, el("td", {}, gone));
  }

  /** What can be said and done about the mark that is chosen. */
  detailsOf(mark) {
    const { plugin } = this;
    const text = (label, key) => {
      const input = el("input", { type: "text", value: mark[key], maxlength: "64", "aria-label": label, "data-dl-name": key });
      input.addEventListener("change", () => plugin.change(mark.id, { [key]: input.value }));
      return el("label", { class: "dl-marks-field" }, el("span", {}, label), input);
    };
    const fields = [text("Name", "name"), text("Label", "label")];
    if (!MARK_REGIONS.includes(mark.tool)) return fields;
    return [...fields, this.throughOf(mark), ...this.fillOf(mark)];
  }

  throughOf(mark) {
    const { count } = this.viewer.meta.planes[mark.plane];
    const now = mark.through || [mark.index, mark.index];
    const inputs = now.map((n, k) => {
      const limits = k ? { min: mark.index + 1, max: count } : { min: 1, max: mark.index + 1 };
      const label = k ? "Last plane of the region" : "First plane of the region";
      const input = el("input", { type: "number", step: 1, ...limits, value: String(n + 1), "aria-label": label, title: label, class: "dl-viewer-number", "data-dl-name": `through${k}` });
      input.addEventListener("change", () => {
        const through = inputs.map((one, i) => Math.min(Math.max(Math.round(one.valueAsNumber || now[i] + 1), Number(one.min)), Number(one.max)) - 1);
        this.plugin.change(mark.id, { through });
      });
      return input;
    });
    return el("div", { class: "dl-marks-field" }, el("span", {}, "Planes"), inputs[0], "–", inputs[1]);
  }

  fillOf(mark) {
    const label = this.viewer.get("mask_labels").find((one) => one.value === this.viewer.get("mask_label"));
    const fill = el("button", { type: "button", class: "dl-marks-fill", "data-dl-name": "fill", onclick: () => this.plugin.fill(mark.id) }, `Fill as ${label?.name || "label"} (p)`);
    return [fill];
  }

  labelRow(label) {
    const { viewer } = this;
    const change = (what) => this.plugin.setLabels(viewer.get("mask_labels").map((one) => (one.value === label.value ? { ...one, ...what } : one)));
    const input = (type, key, more, name) => el("input", { type, "aria-label": `${name} of ${label.name}`, "data-dl-name": `${key}-${label.value}`, ...more });
    const active = input("radio", "active", { name: `dl-mask-${viewer.get("identity")}`, checked: label.value === viewer.get("mask_label") }, "Painting");
    active.setAttribute("aria-label", `Paint with ${label.name}`);
    active.addEventListener("change", () => viewer.set({ mask_label: label.value }));
    const color = input("color", "color", { value: label.color }, "Colour");
    color.addEventListener("change", () => change({ color: color.value }));
    const name = input("text", "label", { value: label.name, maxlength: "64" }, "Name");
    name.addEventListener("change", () => change({ name: name.value }));
    const seen = input("checkbox", "seen", { checked: label.visible }, "Visibility");
    seen.addEventListener("change", () => change({ visible: seen.checked }));
    const size = label.voxels ? (label.ml === null ? `${label.voxels} px` : `${label.ml.toPrecision(3)} ml`) : "empty";
    return el("div", { class: "dl-marks-row" }, active, color, name, seen, el("span", { class: "dl-muted" }, size));
  }

  addLabel() {
    const labels = this.viewer.get("mask_labels");
    const value = Array.from({ length: 255 }, (_, i) => i + 1).find((n) => labels.every((one) => one.value !== n));
    if (value) this.plugin.setLabels([...labels, { value, visible: true }], value);
  }

  async measure() {
    const rows = await this.plugin.measureMask();
    if (!rows) return;
    const digits = (v) => (v === null ? "–" : String(Number(v.toPrecision(4))));
    const line = (one) => `${one.name}: mean ${digits(one.mean)}, sd ${digits(one.sd)}, min ${digits(one.min)}, max ${digits(one.max)} ${one.units}`;
    this.measured.textContent = rows.length ? rows.map(line).join("\n") : "Nothing is painted.";
    this.plugin.viewer.announce(this.measured.textContent);
  }
}
