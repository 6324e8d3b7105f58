// Small helpers to build the page of a widget.

/** An element: el("button", {class: "dl-button", title: "…", onclick: f}, "text", child, …). */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") Object.assign(node.style, value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

/** The root of a widget's view: themed, labelled, with a place for errors and live text for screen readers. */
export function frame(host, link, model, label) {
  const error = el("div", { class: "dl-error", role: "alert", hidden: true });
  const live = el("div", { class: "dl-live", role: "status", "aria-live": "polite" });
  const root = el("div", { class: "dl-widget", role: "region", "aria-label": label, "data-dl-state": "loading" });
  root.append(error, live);
  // Notebook 7 takes keys before they get here, unless what has the focus says not to
  root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
  host.append(root);
  const showError = (text) => {
    error.textContent = text || "";
    error.hidden = !text;
  };
  const onError = () => showError(model.get("error"));
  model.on("change:error", onError);
  onError();
  const onSilence = (silent) => {
    root.classList.toggle("dl-dead", silent);
    if (silent) showError("No kernel answers: it is busy, or run the cell again.");
    else onError();
  };
  link.silences.add(onSilence);
  let spoken = null;
  return {
    root,
    showError,
    /** Say something to screen readers; fast changes are gathered. */
    announce(text) {
      clearTimeout(spoken);
      spoken = setTimeout(() => (live.textContent = text), 250);
    },
    /** For tests and for styles: "loading", "ready" … */
    state(name) {
      root.dataset.dlState = name;
    },
    dispose() {
      clearTimeout(spoken);
      model.off("change:error", onError);
      link.silences.delete(onSilence);
    },
  };
}

/** Keep keys from the notebook's own shortcuts while a widget has the focus. */
export function keysOf(node, handle) {
  node.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.target.matches("input, select, textarea") && event.key !== "Escape") return;
    if (handle(event)) event.preventDefault();
  });
}

/** Call at most once in a frame, with the newest arguments. */
export function perFrame(work) {
  let asked = null;
  let newest = [];
  return (...args) => {
    newest = args;
    if (asked === null)
      asked = requestAnimationFrame(() => {
        asked = null;
        work(...newest);
      });
  };
}

/** Call when `ms` have passed without another call. */
export function settled(work, ms = 150) {
  let timer = null;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), ms);
  };
}
