// Reports, key objects, presentation states and attached documents of a study, to read.
import { el } from "../base/dom.js";
import { dateText, sizeText } from "./words.js";

// what a browser may open by itself; all else is saved, so that no script in it ever runs here
const OPENED_MIMES = ["application/pdf"];
const SAVED_MIMES = { "video/mp4": "video/mp4", "video/mpeg": "video/mpeg" };

/** say: {ask(args) -> {data, buffers}, failed(failure)}. */
export class Documents {
  constructor(say) {
    this.say = say;
    this.urls = [];
    this.list = el("div", { class: "dl-br-documents", role: "list" });
    this.shown = el("div", { class: "dl-br-document" });
    this.node = el("div", {}, this.list, this.shown);
  }

  /** Show the documents of a study; the one of `id` opens by itself. */
  show(documents, id) {
    this.list.replaceChildren(...documents.map((one) => this.line(one)));
    this.clear();
    if (!documents.length) this.list.append(el("div", { class: "dl-br-empty" }, "This study has no reports and no documents."));
    const own = documents.find((one) => one.id === id);
    if (own) this.open(own, 0);
  }

  line(one) {
    const title = one.SeriesDescription || one.what;
    const about = [one.what, dateText(one.SeriesDate), one.instances > 1 && `${one.instances} objects`].filter(Boolean).join(" · ");
    const button = el("button", { type: "button", class: "dl-br-document-line", "data-id": String(one.id), onclick: () => this.open(one, 0) }, el("strong", {}, `${one.Modality} `), title, el("div", { class: "dl-muted" }, about));
    return el("div", { role: "listitem" }, button);
  }

  /** Show that no study is looked at. */
  empty() {
    this.clear();
    this.list.replaceChildren(el("div", { class: "dl-br-empty" }, "Choose a series to see the documents of its study."));
  }

  clear() {
    for (const url of this.urls) URL.revokeObjectURL(url);
    this.urls = [];
    this.shown.replaceChildren();
  }

  async open(one, number) {
    for (const node of this.list.querySelectorAll("button")) node.setAttribute("aria-pressed", String(node.dataset.id === String(one.id)));
    try {
      const { data, buffers } = await this.say.ask({ id: one.id, number });
      this.clear();
      this.shown.append(el("h4", {}, data.title), this.steps(one, data), ...this.inside(data, buffers).filter(Boolean));
      this.shown.dataset.kind = data.kind;
    } catch (failure) {
      this.say.failed(failure);
    }
  }

  steps(one, data) {
    if (data.of < 2) return "";
    const go = (by, sign, label) => el("button", { type: "button", "aria-label": label, disabled: !(data.number + by in Array(data.of).fill(0)), onclick: () => this.open(one, data.number + by) }, sign);
    return el("div", { class: "dl-row" }, go(-1, "‹", "Document before"), `${data.number + 1} of ${data.of}`, go(1, "›", "Next document"));
  }

  inside(data, buffers) {
    if (data.kind === "report") return [el("p", { class: "dl-muted" }, data.about.join(" · ")), reportTree(data.items)];
    if (data.kind === "presentation") return data.lines.map((line) => el("p", {}, line));
    if (data.kind === "document") return this.attached(data, buffers);
    return [el("p", {}, "This object is none that can be read here; its elements are under Tags.")];
  }

  attached(data, buffers) {
    const about = el("p", { class: "dl-muted" }, `${data.mime}, ${sizeText(data.bytes)}`);
    const words = data.words ? el("pre", { class: "dl-br-words" }, data.words) : el("p", { class: "dl-muted" }, `No text to show: this ${data.why_none || "holds none"}.`);
    return [about, buffers.length ? this.links(data, buffers[0]) : el("p", {}, "Too large to send here: lake.open(uid).save(path) writes it."), words];
  }

  links(data, buffer) {
    const mime = data.mime.split(";")[0].trim().toLowerCase();
    const opens = OPENED_MIMES.includes(mime);
    const type = opens ? mime : SAVED_MIMES[mime] || "application/octet-stream";
    const url = URL.createObjectURL(new Blob([buffer], { type }));
    this.urls.push(url);
    const save = el("a", { class: "dl-br-link", href: url, download: `document${data.suffix}` }, "Save");
    return el("div", { class: "dl-row" }, opens ? el("a", { class: "dl-br-link", href: url, target: "_blank", rel: "noopener" }, "Open") : null, save);
  }
}

/** Items with their depth as nested details. */
function reportTree(items) {
  const root = el("div", { class: "dl-br-report" });
  const open = [root];
  for (const item of items) {
    open.length = Math.min(open.length, item.depth + 1);
    const place = open[open.length - 1];
    if (item.leaf) place.append(el("div", { class: "dl-br-report-item" }, item.text));
    else {
      const node = el("details", { open: item.depth < 3, class: "dl-br-report-item" }, el("summary", {}, item.text));
      place.append(node);
      open.push(node);
    }
  }
  return root;
}
