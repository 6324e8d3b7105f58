// Rows by key that are changed in place, so that the focus and what is unfolded stay where they are.
import { el } from "../base/dom.js";
import { STATES } from "./mon_words.js";

/** Set the text of a node, if it is another one. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Keeps the rows of a body: make(key) -> {node, update(row)}; in the order of `compare` of [key, row]. */
export class KeyedRows {
  constructor(body, make) {
    this.body = body;
    this.make = make;
    this.parts = new Map();
  }

  /** Show these [key, row] in this order, at most those. */
  show(entries) {
    const wanted = new Set(entries.map(([key]) => key));
    for (const [key, part] of this.parts)
      if (!wanted.has(key)) {
        part.node.remove();
        this.parts.delete(key);
      }
    const held = document.activeElement;
    let place = this.body.firstElementChild;
    for (const [key, row] of entries) {
      let part = this.parts.get(key);
      if (!part) this.parts.set(key, (part = this.make(key)));
      part.update(row);
      if (part.node === place) place = place.nextElementSibling;
      else this.body.insertBefore(part.node, place);
    }
    if (held !== document.activeElement && this.body.contains(held)) held.focus({ preventScroll: true });
  }
}

/** A state with its symbol and its word. */
export function stateBadge() {
  const symbol = el("span", { class: "dl-mon-symbol", "aria-hidden": "true" });
  const word = el("span");
  const node = el("span", { class: "dl-mon-state" }, symbol, word);
  return {
    node,
    update(state) {
      const [sign, text] = STATES[state] || ["?", String(state)];
      node.dataset.state = STATES[state] ? state : "";
      setText(symbol, sign);
      setText(word, text);
    },
  };
}

/** Received of expected, with a bar where it is known what to expect. */
export function progressCell() {
  const inner = el("div", { class: "dl-mon-bar-in" });
  const bar = el("div", { class: "dl-mon-bar", role: "progressbar", "aria-valuemin": "0", hidden: true }, inner);
  const text = el("span", { class: "dl-mon-number" });
  const node = el("div", { class: "dl-mon-progress" }, text, bar);
  return {
    node,
    update(received, expected, label) {
      const known = Number.isFinite(expected) && expected > 0;
      setText(text, known ? `${received.toLocaleString("en")} of ${expected.toLocaleString("en")}` : received.toLocaleString("en"));
      bar.hidden = !known;
      if (!known) return;
      const share = Math.min(1, received / expected);
      inner.style.width = `${(share * 100).toFixed(1)}%`;
      bar.dataset.full = String(share === 1);
      bar.setAttribute("aria-label", label);
      bar.setAttribute("aria-valuemax", String(expected));
      bar.setAttribute("aria-valuenow", String(Math.min(received, expected)));
    },
  };
}

/** A button that asks Python, and is out of use until it answered. */
export function askButton(text, title, label, ask) {
  const button = el("button", { type: "button", class: "dl-mon-small", title, "aria-label": label }, text);
  button.addEventListener("click", async () => {
    button.setAttribute("aria-disabled", "true");
    try {
      await ask();
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
  return button;
}
