// Colour maps as control points; what lies between is linear.

const GREYS = [[0, "000000"], [1, "ffffff"]];

/** name -> {title, safe (for colour-blind eyes), points: [[position, rrggbb], …]}. */
export const COLORMAPS = {
  grey: { title: "Grey", safe: true, points: GREYS },
  viridis: {
    title: "Viridis",
    safe: true,
    points: [
      [0, "440154"], [0.125, "472d7b"], [0.25, "3b528b"], [0.375, "2c728e"], [0.5, "21918c"],
      [0.625, "28ae80"], [0.75, "5ec962"], [0.875, "addc30"], [1, "fde725"],
    ],
  },
  cividis: {
    title: "Cividis",
    safe: true,
    points: [
      [0, "00224e"], [0.125, "123570"], [0.25, "3b496c"], [0.375, "575d6d"], [0.5, "707173"],
      [0.625, "8a8678"], [0.75, "a59c74"], [0.875, "c3b369"], [1, "fee838"],
    ],
  },
  inferno: {
    title: "Inferno",
    safe: true,
    points: [
      [0, "000004"], [0.125, "210c4a"], [0.25, "57106e"], [0.375, "8a226a"], [0.5, "bc3754"],
      [0.625, "e45a31"], [0.75, "f98e09"], [0.875, "f9cb35"], [1, "fcffa4"],
    ],
  },
  hot: {
    title: "Hot iron",
    safe: true,
    points: [[0, "000000"], [0.5, "ff0000"], [0.75, "ff8000"], [1, "ffffff"]],
  },
  bluered: {
    title: "Blue-white-red",
    safe: true,
    points: [[0, "053061"], [0.25, "4393c3"], [0.5, "f7f7f7"], [0.75, "d6604d"], [1, "67001f"]],
  },
  pet: {
    title: "PET rainbow",
    safe: false,
    points: [
      [0, "000000"], [0.15, "3c0078"], [0.3, "0000ff"], [0.45, "00a0c8"], [0.55, "00c800"],
      [0.7, "ffff00"], [0.85, "ff3c00"], [1, "ffffff"],
    ],
  },
  turbo: {
    title: "Turbo (jet)",
    safe: false,
    points: [
      [0, "30123b"], [0.125, "4675ed"], [0.25, "1bcfd4"], [0.375, "61fc6c"], [0.5, "a4fc3b"],
      [0.625, "e1dd37"], [0.75, "fb8022"], [0.875, "d23105"], [1, "7a0403"],
    ],
  },
};

const tables = new Map();

/** 256 colours of a map, red, green, blue each, as one Uint8Array of 768; grey for an unknown name. */
export function colormapTable(name) {
  if (!tables.has(name)) tables.set(name, tableOf((COLORMAPS[name] || COLORMAPS.grey).points));
  return tables.get(name);
}

function tableOf(points) {
  const stops = points.map(([at, hex]) => [at, [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16))]);
  const table = new Uint8Array(768);
  let upper = 1;
  for (let step = 0; step < 256; step++) {
    const at = step / 255;
    while (upper < stops.length - 1 && at > stops[upper][0]) upper += 1;
    const [[a, low], [b, high]] = [stops[upper - 1], stops[upper]];
    const part = (at - a) / (b - a);
    for (let i = 0; i < 3; i++) table[3 * step + i] = Math.round(low[i] + (high[i] - low[i]) * part);
  }
  return table;
}
