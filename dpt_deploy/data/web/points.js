// A map of depth as points in space, with the arithmetic of the Python package (dpt_deploy/imaging/points.py).
//
// NumPy computes it in float32: Math.fround after each operation gives the same bits. Coordinates are those of the
// camera: x to the right, y down, z forward. Pixel (0, 0) has its centre at (0, 0).

const single = Math.fround;
const RELATIVE = ["inverse depth", "relative depth"];

/** The camera {focal, cx, cy} in pixels of a photo with a horizontal field of view in degrees. */
export function viewCamera({ height, width }, degrees) {
  if (!(degrees > 0 && degrees < 180)) throw new RangeError(`the field of view is ${degrees} °; expected 0 to 180 °`);
  const focal = width / (2 * Math.tan((degrees * (Math.PI / 180)) / 2));
  return { focal, cx: (width - 1) / 2, cy: (height - 1) / 2 };
}

/**
 * The depth {depth, metric, note} of a map {values, height, width, size}. `output` is the sidecar's record, `camera`
 * turns canonical depth into metres, and `ratio` is the assumed depth of the farthest pixel over that of the nearest.
 */
export function depthOf(map, output, camera, ratio) {
  if (output.quantity === "metres") return { depth: map.values, metric: true, note: "units metres" };
  if (output.quantity === "canonical depth") {
    const [height, width] = map.size;
    const scaled = ((camera.focal * width) / map.width + (camera.focal * height) / map.height) / 2;
    const factor = single(scaled / output.focal);
    return { depth: map.values.map((value) => value * factor), metric: true, note: "units metres" };
  }
  const { quantity } = output;
  const scale = `so that the nearest depth is 1 and the farthest ${Number(ratio.toPrecision(6))}`;
  const note = `units relative (not metres): ${quantity} scaled ${scale}`;
  return { depth: assumedDepth(map.values, quantity, ratio), metric: false, note };
}

function assumedDepth(values, quantity, ratio) {
  if (!RELATIVE.includes(quantity)) throw new RangeError(`no depth follows from ${quantity}`);
  if (!(ratio > 1 && ratio < Infinity)) throw new RangeError(`the depth ratio is ${ratio}; expected a number above 1`);
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const near = quantity === "inverse depth";
  const [span, far, more] = [single(high - low), single(ratio), single(ratio - 1)];
  return values.map((value) => {
    if (!Number.isFinite(value)) return NaN;
    const share = high > low ? single(single(value - low) / span) : Number(near);
    return near ? 1 / single(share + single(single(1 - share) / far)) : 1 + single(more * share);
  });
}

/**
 * 1 where a pixel of `depth` becomes a point, else 0: its depth is finite and positive, and no neighbour's differs
 * by more than `edge` x the nearer of both. An edge of 0 keeps all jumps.
 */
export function keptPixels(depth, { height, width }, edge) {
  const fine = depth.map((value) => (value > 0 ? value : Infinity));
  const kept = new Uint8Array(fine.length);
  for (let i = 0; i < kept.length; i++) kept[i] = fine[i] < Infinity ? 1 : 0;
  if (!edge) return kept;
  const share = single(edge);
  const compare = (one, other) => {
    const [a, b] = [fine[one], fine[other]];
    if (single(Math.abs(a - b)) > single(share * (a < b ? a : b))) kept[one] = kept[other] = 0;
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (x + 1 < width) compare(i, i + 1);
      if (y + 1 < height) compare(i, i + width);
    }
  }
  return kept;
}

/** Points {points, rows, columns} of every `stride`-th row and column: x, y and z of each, row by row. */
export function backProject(depth, { height, width }, { focal, cx, cy }, stride) {
  const [rows, columns] = [Math.ceil(height / stride), Math.ceil(width / stride)];
  const points = new Float32Array(3 * rows * columns);
  for (let row = 0; row < rows; row++) {
    const down = single((row * stride - cy) / focal);
    for (let column = 0; column < columns; column++) {
      const z = depth[row * stride * width + column * stride];
      const across = single((column * stride - cx) / focal);
      const i = 3 * (row * columns + column);
      points[i] = across * z;
      points[i + 1] = down * z;
      points[i + 2] = z;
    }
  }
  return { points, rows, columns };
}

/** The kept points of a depth {depth, note} with the colours of its photo: {points, colours, note}. */
export function pointCloud({ depth, note }, photo, camera, { stride, edge }) {
  const kept = keptPixels(depth, photo, edge);
  const grid = backProject(depth, photo, camera, stride);
  const points = new Float32Array(grid.points.length);
  const colours = new Uint8Array(grid.points.length);
  let used = 0;
  for (let i = 0; i < grid.rows * grid.columns; i++) {
    const pixel = Math.floor(i / grid.columns) * stride * photo.width + (i % grid.columns) * stride;
    if (!kept[pixel]) continue;
    for (let k = 0; k < 3; k++, used++) {
      points[used] = grid.points[3 * i + k];
      colours[used] = photo.data[photo.channels * pixel + k];
    }
  }
  if (!used) throw new RangeError("no pixel has a depth that can become a point: cut larger jumps only, or none (0)");
  return { points: points.subarray(0, used), colours: colours.subarray(0, used), note };
}

/** Bytes of a binary PLY file: float x y z, uchar red green blue. Comments state the unit and the frame. */
export function ply({ points, colours, note }) {
  const count = points.length / 3;
  const lines = ["ply", "format binary_little_endian 1.0", `comment ${note}`];
  lines.push("comment frame camera: x right, y down, z forward", `element vertex ${count}`);
  for (const axis of ["x", "y", "z"]) lines.push(`property float ${axis}`);
  for (const colour of ["red", "green", "blue"]) lines.push(`property uchar ${colour}`);
  const head = new TextEncoder().encode([...lines, "end_header", ""].join("\n"));
  const bytes = new Uint8Array(head.length + 15 * count);
  bytes.set(head);
  const view = new DataView(bytes.buffer, head.length);
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 3; k++) {
      view.setFloat32(15 * i + 4 * k, points[3 * i + k], true);
      view.setUint8(15 * i + 12 + k, colours[3 * i + k]);
    }
  }
  return bytes;
}
