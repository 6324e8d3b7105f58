// The button that registers images and tells how far that is; of comparisons and timelines.

import { el } from "../base/dom.js";

/** A button and a line of progress; view: {link, frame}. Progress comes as the news "registering". */
export class RegisterButton {
  constructor(view) {
    this.view = view;
    this.busy = false;
    this.el = el("button", { type: "button", onclick: () => this.press() }, "Register");
    this.progress = el("span", { class: "dl-muted dl-compare-progress", role: "status" });
  }

  /** Listen to progress; returns what stops it. */
  listen() {
    return this.view.link.on("registering", (news) => this.tell(news));
  }

  async press() {
    const { link, frame } = this.view;
    try {
      await link.ask(this.busy ? "stop" : "register", {});
      frame.showError("");
    } catch (failure) {
      frame.showError(failure.message);
    }
  }

  tell({ part, text, done }) {
    this.busy = !done;
    this.progress.textContent = done ? text : `${Math.round(part * 100)} %, ${text}`;
    this.el.textContent = done ? "Register" : "Stop";
    if (done) this.view.frame.announce(text);
  }
}
