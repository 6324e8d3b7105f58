// Files dropped into the widget: sent in pieces of a few megabytes, taken in by Python, the result told.
import { el } from "../base/dom.js";
import { countText, sizeText } from "./words.js";

const PIECE_BYTES = 3 << 20;
const MOST_DROPPED = 20000; // files; Python says the same
const OUTCOMES = {
  stored: ["✓", "stored"],
  already: ["=", "there already"],
  conflict: ["⇆", "in conflict with another of the same UID"],
  refused: ["✕", "refused"],
  skipped: ["–", "no DICOM, skipped"],
};

/** say: {ask(name, args, buffers) -> data, announce(text), done(result), failed(failure)}. */
export class Uploads {
  constructor(say) {
    this.say = say;
    this.current = null;
    this.waiting = new Map(); // upload -> resolve
    this.files = el("input", { type: "file", multiple: true, hidden: true, "aria-hidden": "true", tabindex: "-1", onchange: () => this.picked(this.files) });
    this.folder = el("input", { type: "file", multiple: true, hidden: true, "aria-hidden": "true", tabindex: "-1", onchange: () => this.picked(this.folder) });
    this.folder.webkitdirectory = true;
    const press = (input, text, title) => el("button", { type: "button", title, onclick: () => input.click() }, text);
    this.buttons = el("span", { class: "dl-row" }, press(this.files, "Add files…", "DICOM files, zip or tar archives"), press(this.folder, "Add folder…", "A folder with all that is in it"), this.files, this.folder);
    this.node = el("div", { class: "dl-br-upload", hidden: true, role: "status" });
  }

  /** Take what is dropped on a node. */
  listen(node, readOnly) {
    this.readOnly = readOnly;
    const over = (event) => {
      if (![...(event.dataTransfer?.types || [])].includes("Files")) return false;
      event.preventDefault();
      event.stopPropagation();
      return true;
    };
    node.addEventListener("dragenter", (event) => over(event) && node.classList.add("dl-br-dropping"));
    node.addEventListener("dragover", over);
    node.addEventListener("dragleave", (event) => node.contains(event.relatedTarget) || node.classList.remove("dl-br-dropping"));
    node.addEventListener("drop", async (event) => {
      node.classList.remove("dl-br-dropping");
      if (over(event)) this.send(await droppedFiles(event.dataTransfer));
    });
  }

  picked(input) {
    const files = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    input.value = "";
    return this.send(files);
  }

  /** Send files, each {file, name}, and wait until they are taken in. */
  async send(files) {
    if (!files.length || this.current) return;
    const size = files.reduce((sum, one) => sum + one.file.size, 0);
    const run = (this.current = { upload: null, stopped: false });
    try {
      this.showProgress(files.length, size);
      run.upload = (await this.say.ask("upload_begin", { size, files: files.length })).upload;
      const result = new Promise((resolve) => this.waiting.set(run.upload, resolve));
      await this.pieces(run, files, size);
      if (run.stopped) return;
      this.words.textContent = `Taking in ${countText(files.length, "file")} …`;
      this.bar.removeAttribute("value");
      this.cancel.hidden = true;
      await this.say.ask("upload_end", { upload: run.upload });
      this.showResult(await result);
    } catch (failure) {
      if (run.upload) this.say.ask("upload_cancel", { upload: run.upload }).catch(() => null);
      this.showFailure(failure.message);
    } finally {
      this.current = null;
    }
  }

  async pieces(run, files, size) {
    let sent = 0;
    for await (const { parts, bytes } of inPieces(files)) {
      if (run.stopped) return;
      await this.say.ask("upload_piece", { upload: run.upload, parts }, [bytes.buffer]);
      sent += bytes.byteLength;
      this.bar.value = size ? sent / size : 1;
      this.words.textContent = `${sizeText(sent)} of ${sizeText(size)} sent`;
    }
  }

  /** What Python tells when an upload was taken in. */
  ingested(data) {
    this.waiting.get(data.upload)?.(data);
    this.waiting.delete(data.upload);
  }

  stop() {
    if (!this.current) return;
    this.current.stopped = true;
    if (this.current.upload) this.say.ask("upload_cancel", { upload: this.current.upload }).catch(() => null);
    this.showFailure("The upload was cancelled; nothing was taken in.");
  }

  // ---- what is shown ---------------------------------------------------------------------------------

  showProgress(count, size) {
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "Sent" });
    this.words = el("span", {}, `${countText(count, "file")}, ${sizeText(size)}`);
    this.cancel = el("button", { type: "button", onclick: () => this.stop() }, "Cancel");
    this.fill("sending", el("div", { class: "dl-row" }, this.bar, this.words, this.cancel));
  }

  showFailure(text) {
    this.fill("failed", el("div", { class: "dl-row" }, el("span", { "aria-hidden": "true" }, "✕"), text, this.closer()));
    this.say.announce(text);
  }

  showResult(data) {
    if (data.failed) return this.showFailure(data.failed);
    const counts = Object.entries(data.counts).filter(([, count]) => count);
    const told = counts.map(([outcome, count]) => `${OUTCOMES[outcome]?.[0] || ""} ${count.toLocaleString("en")} ${OUTCOMES[outcome]?.[1] || outcome}`);
    const reasons = data.reasons.map((one) => el("li", {}, `${one.count} × ${one.outcome}: ${one.detail || "no reason given"}`));
    const files = data.files.map((one) => el("li", {}, el("code", {}, one.name), ` — ${one.outcome}: ${one.detail}`));
    const text = told.join(" · ") || "no object met";
    this.fill(
      "done",
      el("div", { class: "dl-row" }, el("strong", {}, "Taken in:"), el("span", { class: "dl-br-upload-counts" }, text), `· ${countText(data.series, "series", "series")} with new instances`, this.closer()),
      reasons.length ? el("ul", { class: "dl-br-lines-list dl-br-reasons" }, reasons) : null,
      files.length ? el("details", {}, el("summary", {}, "Which files"), el("ul", { class: "dl-br-lines-list" }, files), data.more ? el("p", { class: "dl-muted" }, `and ${data.more} others`) : null) : null,
    );
    this.say.announce(`Taken in: ${text}`);
    this.say.done(data);
    return undefined;
  }

  closer() {
    return el("button", { type: "button", "aria-label": "Close this message", onclick: () => (this.node.hidden = true) }, "×");
  }

  fill(state, ...children) {
    this.node.replaceChildren(...children.filter(Boolean));
    this.node.dataset.state = state;
    this.node.hidden = false;
  }
}

/** Files one after the other, cut and joined into pieces: {parts: [{name?, at, bytes}], bytes: Uint8Array}. */
async function* inPieces(files) {
  let parts = [];
  let blobs = [];
  let room = PIECE_BYTES;
  const piece = async () => {
    const bytes = new Uint8Array(await new Blob(blobs).arrayBuffer());
    const made = { parts, bytes };
    [parts, blobs, room] = [[], [], PIECE_BYTES];
    return made;
  };
  for (const { file, name } of files) {
    let at = 0;
    do {
      const bytes = Math.min(room, file.size - at);
      parts.push(at === 0 ? { name, at, bytes } : { at, bytes });
      blobs.push(file.slice(at, at + bytes));
      at += bytes;
      room -= bytes;
      if (room === 0 || parts.length >= 500) yield await piece();
    } while (at < file.size);
  }
  if (parts.length) yield await piece();
}

/** The files of a drop, folders with all that is in them. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  const found = [];
  for (const entry of entries) await gather(entry, found);
  return found;
}

async function gather(entry, found) {
  if (found.length > MOST_DROPPED) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await gather(one, found);
  }
}
