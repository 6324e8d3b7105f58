// The tag viewer by itself.
import { linkOf } from "../base/link.js";
import { frame } from "../base/dom.js";
import { Tags } from "./tags.js";

export default {
  render({ model, el: host }) {
    const link = linkOf(model);
    const view = frame(host, link, model, "Elements of a DICOM object");
    const tags = new Tags({
      ask: async (name, args, key = null) => (await link.ask(name, args, { key })).data,
      add: null,
      announce: view.announce,
      failed: (failure) => view.showError(failure.message),
    });
    tags.body.style.height = `${model.get("height")}px`;
    view.root.append(tags.node);
    tags.show({}).then(() => view.state("ready"));
    return () => view.dispose();
  },
};
