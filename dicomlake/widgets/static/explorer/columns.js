// Which columns the table has: taken away, moved, and added by name.

import { el } from "../base/dom.js";
import { exPicker } from "./picker.js";

/** The chooser: `button` opens `node`. app: see explorer.js. names(text) completes. */
export class ExColumns {
  constructor(app, names) {
    this.app = app;
    this.button = el("button", { "aria-pressed": "false", onclick: () => this.toggle() }, "Columns");
    this.node = el("div", { class: "dl-ex-columns", hidden: true });
    this.picker = exPicker({ label: "Add column", ask: names, onPick: (name) => this.set([...this.names, name]) });
  }

  get names() {
    return this.app.settings().columns;
  }

  toggle() {
    this.node.hidden = !this.node.hidden;
    this.button.setAttribute("aria-pressed", String(!this.node.hidden));
    this.draw();
  }

  draw() {
    const { names } = this;
    const items = names.map((name, i) =>
      el(
        "span",
        { class: "dl-ex-chip" },
        el("button", { title: `Move ${name} left`, "aria-label": `Move ${name} left`, disabled: !i, onclick: () => this.move(i) }, "←"),
        el("code", {}, name),
        el("button", { title: `Remove ${name}`, "aria-label": `Remove column ${name}`, onclick: () => this.set(names.filter((one) => one !== name)) }, "×"),
      ),
    );
    this.node.replaceChildren(...items, this.picker);
  }

  move(place) {
    const names = [...this.names];
    [names[place - 1], names[place]] = [names[place], names[place - 1]];
    this.set(names);
  }

  async set(names) {
    const { app } = this;
    app.busy += 1;
    const answer = await app.ask("columns", { names }, "columns");
    app.busy -= 1;
    if (!answer) return;
    app.view.showError("");
    app.shownColumns = answer.data.columns.join();
    app.table.show(answer.data.page);
    this.draw();
  }
}
