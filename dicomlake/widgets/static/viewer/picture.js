// A picture of what the panes show, as PNG.

const LINE_PX = 15;

/** PNG bytes of all panes with their texts, as they lie on the page. */
export async function pictureOf(viewer) {
  const box = viewer.grid.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.round(box.width * ratio), height: Math.round(box.height * ratio) });
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  for (const pane of viewer.panes) {
    const at = pane.el.getBoundingClientRect();
    ctx.save();
    ctx.translate(at.left - box.left, at.top - box.top);
    ctx.drawImage(pane.canvas, 0, 0, at.width, at.height);
    writeTexts(ctx, pane);
    ctx.restore();
  }
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return blob.arrayBuffer();
}

function writeTexts(ctx, pane) {
  ctx.font = "12px sans-serif";
  ctx.fillStyle = "#e8eaed";
  ctx.shadowColor = "#000";
  ctx.shadowBlur = 3;
  const { width, height } = pane;
  const places = {
    ...{ tl: [8, 16, "left", 1], tr: [width - 8, 16, "right", 1] },
    ...{ bl: [8, height - 8, "left", -1], br: [width - 8, height - 8, "right", -1] },
    ...{ top: [width / 2, 16, "center", 1], bottom: [width / 2, height - 8, "center", -1] },
    ...{ left: [8, height / 2, "left", 1], right: [width - 8, height / 2, "right", 1] },
    badge: [width / 2, 34, "center", 1],
  };
  for (const [corner, [x, y, align, down]] of Object.entries(places)) {
    const lines = pane.texts[corner].textContent.split("\n");
    ctx.textAlign = align;
    (down > 0 ? lines : lines.reverse()).forEach((line, i) => ctx.fillText(line, x, y + down * i * LINE_PX));
  }
}
