// The viewer alone in a cell's output.

import { drawViewer } from "./draw.js";

function renderViewer({ model, el }) {
  const viewer = drawViewer({ model, el });
  return () => viewer.dispose();
}

export default { render: renderViewer };
