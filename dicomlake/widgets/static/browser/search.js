// The search box: a list that follows what is typed, hints of what can come next, words for what is wrong.
import { el, settled } from "../base/dom.js";

let boxesMade = 0;

/** say: {find(text) -> problem or null, hints(text) -> {from, hints}}. Returns {node, text, set(text), focus(), add(condition)}. */
export function searchBox(say) {
  return new SearchBox(say);
}

class SearchBox {
  constructor(say) {
    this.say = say;
    this.busy = false;
    this.next = null; // what was typed while an answer was awaited
    this.offered = { from: 0, hints: [] };
    this.active = -1;
    this.prefix = `dl-br-hints-${(boxesMade += 1)}`;
    this.build();
    this.later = settled(() => this.find(), 150);
    this.hintLater = settled(() => this.hint(), 120);
  }

  build() {
    this.input = el("input", {
      class: "dl-br-search",
      type: "text",
      role: "combobox",
      spellcheck: "false",
      autocomplete: "off",
      placeholder: "chest  Modality=CT  SliceThickness<=1.5   ( / to search)",
      "aria-label": "Search: words, or conditions such as Modality=CT",
      "aria-expanded": "false",
      "aria-autocomplete": "list",
      "aria-controls": this.prefix,
      oninput: () => this.typed(),
      onkeydown: (event) => this.key(event),
      onblur: () => setTimeout(() => this.hide(), 150),
    });
    this.popup = el("div", { class: "dl-br-hints", id: this.prefix, role: "listbox", "aria-label": "Hints", hidden: true });
    this.problem = el("div", { class: "dl-br-problem", role: "status", hidden: true });
    this.node = el("div", { class: "dl-br-search-place" }, this.input, this.popup, this.problem);
  }

  get text() {
    return this.input.value;
  }

  /** Show a text that came from elsewhere, and list it. */
  set(text) {
    if (text === this.input.value) return;
    this.input.value = text;
    this.hide();
    this.find();
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  /** Add a condition to what is there. */
  add(condition) {
    const begun = this.input.value.trimEnd();
    this.set(begun ? `${begun} ${condition}` : condition);
    this.input.focus();
  }

  typed() {
    this.later();
    this.hintLater();
  }

  /** One search is under way at a time; the newest text follows it, those between are dropped. */
  async find() {
    const text = this.input.value;
    if (this.busy) {
      this.next = text;
      return;
    }
    this.busy = true;
    this.input.setAttribute("aria-busy", "true");
    try {
      this.showProblem(await this.say.find(text));
    } finally {
      this.busy = false;
      this.input.removeAttribute("aria-busy");
      const waiting = this.next !== null;
      this.next = null;
      if (waiting) this.find();
    }
  }

  showProblem(problem) {
    this.input.setAttribute("aria-invalid", String(Boolean(problem)));
    this.problem.hidden = !problem;
    this.problem.replaceChildren();
    if (!problem) return;
    this.problem.append(el("span", { "aria-hidden": "true" }, "⚠ "), problem.message, " ");
    for (const text of problem.instead) {
      const put = () => this.replace(problem.start, problem.end, text);
      this.problem.append(el("button", { type: "button", class: "dl-br-instead", onclick: put }, text));
    }
  }

  replace(from, to, text) {
    this.set(this.input.value.slice(0, from) + text + this.input.value.slice(to));
    this.input.focus();
  }

  // ---- hints -----------------------------------------------------------------------------------------

  async hint() {
    const end = this.input.selectionStart ?? this.input.value.length;
    const text = this.input.value.slice(0, end);
    if (!text.trim()) return this.hide();
    const offered = await this.say.hints(text);
    if (document.activeElement !== this.input || !this.input.value.startsWith(text)) return this.hide();
    this.offered = { ...offered, end, text };
    return this.showHints();
  }

  showHints() {
    const { hints, from, end, text } = this.offered;
    const whole = hints.length === 1 && hints[0].text === text.slice(from, end);
    if (!hints.length || whole) return this.hide();
    this.active = -1;
    this.popup.replaceChildren(
      ...hints.map((one, i) =>
        el(
          "div",
          {
            class: "dl-br-hint",
            role: "option",
            id: `${this.prefix}-${i}`,
            "aria-selected": "false",
            onmousedown: (event) => {
              event.preventDefault();
              this.take(i);
            },
          },
          el("span", {}, one.text),
          el("span", { class: "dl-muted" }, one.about),
        ),
      ),
    );
    this.popup.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
  }

  hide() {
    this.popup.hidden = true;
    this.active = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  /** Put a hint in place of what was begun; a name is followed by a sign. */
  take(i) {
    const { from, end, hints, text } = this.offered;
    const isName = !/[<>=~]/.test(text.slice(text.search(/\S*$/)));
    const put = hints[i].text + (isName ? "=" : " ");
    this.input.value = this.input.value.slice(0, from) + put + this.input.value.slice(end);
    const caret = from + put.length;
    this.input.setSelectionRange(caret, caret);
    this.hide();
    this.typed();
  }

  key(event) {
    event.stopPropagation();
    const count = this.popup.hidden ? 0 : this.offered.hints.length;
    if (event.key === "Escape") {
      if (!count) return;
      this.hide();
    } else if (count && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      this.mark((this.active + (event.key === "ArrowDown" ? 1 : count) + (this.active < 0 && event.key === "ArrowUp" ? 1 : 0)) % count);
    } else if (count && (event.key === "Tab" || event.key === "Enter") && this.active >= 0) this.take(this.active);
    else if (event.key === "Enter") {
      this.hide();
      this.find();
    } else if (!count && event.key === "ArrowDown") this.say.leave();
    else return;
    event.preventDefault();
  }

  mark(i) {
    this.active = i;
    [...this.popup.children].forEach((node, n) => node.setAttribute("aria-selected", String(n === i)));
    this.popup.children[i].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", `${this.prefix}-${i}`);
  }
}
