// Pictures and files of a map.

import { INFERNO } from "./inferno.js";

/** RGBA pixels of a map: labels in the palette's colours, numbers stretched over their range in inferno. */
export function coloured(map, palette) {
  const { values } = map;
  const out = new Uint8ClampedArray(4 * values.length);
  const [low, high] = map.ofClasses ? [0, 0] : range(values);
  const scale = high > low ? 255.999 / (high - low) : 0;
  for (let i = 0; i < values.length; i++) {
    if (map.ofClasses) out.set(palette[values[i]], 4 * i);
    else if (Number.isFinite(values[i])) {
      const entry = 3 * Math.floor((values[i] - low) * scale);
      out.set(INFERNO.subarray(entry, entry + 3), 4 * i);
    }
    out[4 * i + 3] = 255;
  }
  return new ImageData(out, map.width, map.height);
}

function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Bytes of a PFM file: little-endian float32, bottom row first. */
export function pfm({ values, height, width }) {
  const head = new TextEncoder().encode(`Pf\n${width} ${height}\n-1\n`);
  const bytes = new Uint8Array(head.length + 4 * values.length);
  bytes.set(head);
  const view = new DataView(bytes.buffer, head.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) view.setFloat32(4 * ((height - 1 - y) * width + x), values[y * width + x], true);
  }
  return bytes;
}

/** Offer a file for download. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
