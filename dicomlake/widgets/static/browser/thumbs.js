// Pictures of series, asked for in batches when their rows are seen, kept as blobs.

const THUMBS_AT_ONCE = 24;
const THUMBS_KEPT = 1000;

/** of(id): a URL, "" where there is no picture, undefined while it is not known; want(ids) asks for more. */
export function thumbStore(link, arrived) {
  const urls = new Map();
  let wanted = [];
  let busy = false;
  const keep = (id, url) => {
    urls.set(id, url);
    if (urls.size <= THUMBS_KEPT) return;
    const [oldest, gone] = urls.entries().next().value;
    urls.delete(oldest);
    if (gone) URL.revokeObjectURL(gone);
  };
  const next = async () => {
    const ids = wanted.filter((id) => !urls.has(id)).slice(0, THUMBS_AT_ONCE);
    if (busy || !ids.length) return;
    busy = true;
    try {
      const { data, buffers } = await link.ask("thumbs", { ids });
      for (const id of data.asked) if (!data.ids.includes(id)) keep(id, "");
      data.ids.forEach((id, i) => keep(id, URL.createObjectURL(new Blob([buffers[i]], { type: "image/png" }))));
    } catch {
      for (const id of ids) keep(id, ""); // the list serves without pictures
    }
    busy = false;
    arrived();
    next();
  };
  return {
    of: (id) => urls.get(id),
    want(ids) {
      wanted = ids;
      next();
    },
    dispose() {
      for (const url of urls.values()) if (url) URL.revokeObjectURL(url);
      urls.clear();
      wanted = [];
    },
  };
}
