// Photo to network input and network output to map, with the arithmetic of the Python package (dpt_deploy/imaging).
//
// The input filter is OpenCV's INTER_CUBIC in float64 with weights in float32; the output filters are those of
// torch.nn.functional.interpolate in float32. JavaScript's numbers are float64, so Math.fround after each operation
// gives float32. Sizes are height first.

const single = Math.fround;
const double = (value) => value;
const CUBIC = single(-0.75);

/** Nearest integer; halves go to the even one, as numpy.round does. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/** The size [height, width] at which a photo enters the network, by the sidecar's image rule `spec`. */
export function networkSize(height, width, spec, stride) {
  let scaleH = spec.height / height;
  let scaleW = spec.width / width;
  if (spec.keep_aspect) {
    const followWidth = {
      minimal: Math.abs(1 - scaleW) < Math.abs(1 - scaleH),
      lower_bound: scaleW > scaleH,
      upper_bound: scaleW < scaleH,
    }[spec.resize];
    if (followWidth === undefined) throw new RangeError(`unknown resize rule ${spec.resize}`);
    scaleH = scaleW = followWidth ? scaleW : scaleH;
  }
  return [
    multiple(scaleH * height, spec.height, spec.resize, stride),
    multiple(scaleW * width, spec.width, spec.resize, stride),
  ];
}

function multiple(side, bound, rule, stride) {
  let found = roundHalfEven(side / stride) * stride;
  if (rule === "upper_bound" && found > bound) found = Math.floor(side / stride) * stride;
  if (rule === "lower_bound" && found < bound) found = Math.ceil(side / stride) * stride;
  return Math.max(found, stride);
}

// A filter along one axis: output i is the sum over k of weight[4 i + k] * input[index[4 i + k]].
function makeTaps(length, target, weights, positionOf) {
  const index = new Int32Array(4 * target);
  const weight = new Float64Array(4 * target);
  for (let i = 0; i < target; i++) {
    const position = positionOf(i);
    const first = Math.floor(position);
    weight.set(weights(single(position - first)), 4 * i);
    for (let k = 0; k < 4; k++) index[4 * i + k] = Math.min(Math.max(first + k - 1, 0), length - 1);
  }
  return { index, weight, target };
}

function opencvTaps(length, target) {
  const step = 1 / (target / length);
  return makeTaps(length, target, opencvWeights, (i) => single((i + 0.5) * step - 0.5));
}

function opencvWeights(x) {
  const a = CUBIC;
  const more = single(x + 1);
  const rest = single(1 - x);
  let far = single(single(a * more) - single(5 * a));
  far = single(single(far * more) + single(8 * a));
  far = single(single(far * more) - single(4 * a));
  const near = (d) => single(single(single(single(single(a + 2) * d) - single(a + 3)) * d) * d) + 1;
  const one = single(near(x));
  const two = single(near(rest));
  return [far, one, two, single(single(single(1 - far) - one) - two)];
}

// a * b + c, rounded to float32 once.
const fma = (a, b, c) => single(a * b + c);

function torchPosition(length, target) {
  const scale = single(single(length) / single(target));
  return (i) => fma(scale, single(i + 0.5), -0.5);
}

function torchWeights(x) {
  const a = CUBIC;
  const near = (d) => fma(single(fma(single(a + 2), d, -single(a + 3)) * d), d, 1);
  const far = (d) => fma(fma(fma(a, d, single(-5 * a)), d, single(8 * a)), d, single(-4 * a));
  return [far(single(x + 1)), near(x), near(single(1 - x)), far(single(2 - x))];
}

const linearWeights = (x) => [0, single(1 - x), x, 0];

function cornerPosition(length, target) {
  const ratio = target > 1 ? single(single(length - 1) / single(target - 1)) : 0;
  return (i) => single(ratio * i);
}

const RESTORING = {
  bicubic: (length, target) => makeTaps(length, target, torchWeights, torchPosition(length, target)),
  bilinear: (length, target) => {
    const position = torchPosition(length, target);
    return makeTaps(length, target, linearWeights, (i) => Math.max(position(i), 0));
  },
  "bilinear-corners": (length, target) => makeTaps(length, target, linearWeights, cornerPosition(length, target)),
};

// One plane, filtered along its rows and then along its columns. `at(row, column)` reads the source, `round` is the
// precision, and `Values` the typed array of the result. The first tap comes first: the order fixes the rounding.
function separable(at, height, rows, cols, round, Values) {
  const width = cols.target;
  const wide = new Values(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const t = 4 * x;
      let total = round(at(y, cols.index[t]) * cols.weight[t]);
      for (let k = 1; k < 4; k++) total = round(total + round(at(y, cols.index[t + k]) * cols.weight[t + k]));
      wide[y * width + x] = total;
    }
  }
  const out = new Values(rows.target * width);
  for (let y = 0; y < rows.target; y++) {
    const t = 4 * y;
    for (let x = 0; x < width; x++) {
      let total = round(wide[rows.index[t] * width + x] * rows.weight[t]);
      for (let k = 1; k < 4; k++) {
        total = round(total + round(wide[rows.index[t + k] * width + x] * rows.weight[t + k]));
      }
      out[y * width + x] = total;
    }
  }
  return out;
}

/**
 * Three planes (float64) of `image` over `divisor` at [height, width]. `image` is {data, height, width, channels} with
 * interleaved bytes; a fourth channel (a canvas has one) is not read.
 */
function resizedPlanes(image, [height, width], divisor) {
  const { data, channels } = image;
  const same = image.height === height && image.width === width;
  const rows = same ? null : opencvTaps(image.height, height);
  const cols = same ? null : opencvTaps(image.width, width);
  return [0, 1, 2].map((channel) => {
    const at = (y, x) => data[(y * image.width + x) * channels + channel] / divisor;
    if (!same) return separable(at, image.height, rows, cols, double, Float64Array);
    return Float64Array.from({ length: height * width }, (_, i) => data[i * channels + channel] / divisor);
  });
}

/** The network's input {data: Float32Array, dims: [1, 3, h, w]} of a photo. */
export function preprocess(image, spec, stride) {
  const size = networkSize(image.height, image.width, spec, stride);
  const data = new Float32Array(3 * size[0] * size[1]);
  resizedPlanes(image, size, 255).forEach((plane, channel) => {
    const start = channel * plane.length;
    for (let i = 0; i < plane.length; i++) data[start + i] = (plane[i] - spec.mean[channel]) / spec.std[channel];
  });
  return { data, dims: [1, 3, ...size] };
}

/** The input {data: Uint8Array, dims: [1, h, w, 3]} of an artefact that normalises inside its graph. */
export function resizeUint8Input(image, spec, stride) {
  const size = networkSize(image.height, image.width, spec, stride);
  const data = new Uint8Array(3 * size[0] * size[1]);
  resizedPlanes(image, size, 1).forEach((plane, channel) => {
    for (let i = 0; i < plane.length; i++) {
      data[3 * i + channel] = Math.min(Math.max(roundHalfEven(plane[i]), 0), 255);
    }
  });
  return { data, dims: [1, ...size, 3] };
}

/** A float32 plane of [height, width] at the size `target`, by the sidecar's filter `rule`. */
export function restore(values, [height, width], target, rule = "bicubic") {
  const taps = RESTORING[rule];
  if (!taps) throw new RangeError(`unknown filter ${rule}`);
  const at = (y, x) => values[y * width + x];
  return separable(at, height, taps(height, target[0]), taps(width, target[1]), single, Float32Array);
}

/** Labels (1 is the first class) of the largest of `classes` planes after resizing; the first of equals wins. */
export function labelsFromLogits(logits, [classes, height, width], target, rule = "bicubic") {
  const labels = new Uint16Array(target[0] * target[1]).fill(1);
  const plane = height * width;
  let best = null;
  for (let c = 0; c < classes; c++) {
    const found = restore(logits.subarray(c * plane, (c + 1) * plane), [height, width], target, rule);
    if (!best) {
      best = found;
      continue;
    }
    for (let i = 0; i < best.length; i++) {
      if (found[i] > best[i]) {
        best[i] = found[i];
        labels[i] = c + 1;
      }
    }
  }
  return labels;
}

/** Labels at another size: each pixel takes the label under its centre. */
export function resizeLabels(labels, [height, width], target) {
  const out = new Uint16Array(target[0] * target[1]);
  for (let y = 0; y < target[0]; y++) {
    const row = Math.floor(((2 * y + 1) * height) / (2 * target[0]));
    for (let x = 0; x < target[1]; x++) {
      out[y * target[1] + x] = labels[row * width + Math.floor(((2 * x + 1) * width) / (2 * target[1]))];
    }
  }
  return out;
}
