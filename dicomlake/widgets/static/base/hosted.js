// Widgets within a widget.
import { el } from "./dom.js";

/** Places side by side for the widgets that some traits name. close(name) takes one away. */
export function hosted(model, names, close, failed) {
  const node = el("div", { class: "dl-hosted", hidden: true });
  const places = new Map(names.map((name) => [name, el("div", { class: "dl-hosted-place", "data-side": name, hidden: true })]));
  node.append(...places.values());
  const turns = new Map();
  const update = async (name) => {
    const place = places.get(name);
    const reference = model.get(name);
    const turn = (turns.get(name) || 0) + 1;
    turns.set(name, turn);
    place.dlView?.remove?.();
    place.dlView = null;
    place.replaceChildren();
    place.hidden = !reference;
    node.hidden = [...places.values()].every((one) => one.hidden);
    if (!reference) return;
    try {
      const view = await childView(model, reference);
      if (turns.get(name) !== turn) return;
      const shut = el("button", { type: "button", class: "dl-hosted-shut", "aria-label": "Close it", title: "Close", onclick: () => close(name) }, "×");
      place.replaceChildren(shut, view.el);
      place.dlView = view;
      view.trigger?.("displayed");
    } catch (failure) {
      failed(failure);
    }
  };
  const listen = new Map(names.map((name) => [name, () => update(name)]));
  for (const [name, heard] of listen) {
    model.on(`change:${name}`, heard);
    update(name);
  }
  return {
    node,
    dispose() {
      for (const [name, heard] of listen) model.off(`change:${name}`, heard);
      for (const place of places.values()) place.dlView?.remove?.();
    },
  };
}

/** A view of a child widget: the manager of JupyterLab makes it. */
async function childView(model, reference) {
  const manager = model.widget_manager;
  const id = typeof reference === "string" ? reference.replace("IPY_MODEL_", "") : null;
  const child = id === null ? reference : await manager.get_model(id);
  return manager.create_view(child);
}
