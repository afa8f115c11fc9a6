// Sessions of ONNX Runtime, and the way from a photo to a map of the photo's size.

import { labelsFromLogits, preprocess, resizeLabels, resizeUint8Input, restore } from "./imaging.js";

const RUNTIMES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };
const loaded = new Map();
const sessions = new Map();

/** Names of the backends that this browser has. */
export async function backends() {
  if (typeof WebAssembly === "undefined") return [];
  const gpu = navigator.gpu ? await navigator.gpu.requestAdapter().catch(() => null) : null;
  return gpu ? ["webgpu", "wasm"] : ["wasm"];
}

async function runtime(backend) {
  if (!loaded.has(backend)) {
    const ort = await import(new URL(`runtime/${RUNTIMES[backend]}`, document.baseURI).href);
    ort.env.wasm.wasmPaths = new URL("runtime/", document.baseURI).href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
    loaded.set(backend, ort);
  }
  return loaded.get(backend);
}

async function session(model, backend) {
  const key = `${backend} ${model.file}`;
  if (!sessions.has(key)) {
    const ort = await runtime(backend);
    const answer = await fetch(model.file);
    if (!answer.ok) throw new Error(`${model.file} cannot be read (${answer.status})`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    sessions.set(key, await ort.InferenceSession.create(bytes, { executionProviders: [backend] }));
  }
  return sessions.get(key);
}

/**
 * The map {values, height, width, ofClasses, milliseconds, size} of a photo {data, height, width, channels}.
 * `rule` is the image rule, at the size that was chosen; the time is that of the network alone.
 */
export async function mapOf(photo, model, rule, backend) {
  const ort = await runtime(backend);
  const network = await session(model, backend);
  const bytes = model.input.kind === "uint8";
  const input = (bytes ? resizeUint8Input : preprocess)(photo, rule, model.stride);
  const tensor = new ort.Tensor(bytes ? "uint8" : "float32", input.data, input.dims);
  const start = performance.now();
  const outputs = await network.run({ [model.input.name]: tensor });
  const milliseconds = performance.now() - start;
  const values = restored(outputs[model.output.name], [photo.height, photo.width], model.output.resample, rule.restore);
  const size = bytes ? input.dims.slice(1, 3) : input.dims.slice(2);
  return { values, height: photo.height, width: photo.width, ofClasses: !!model.palette, milliseconds, size };
}

function restored(output, target, resample, filter) {
  const dims = output.dims.slice(1);
  if (resample === "argmax") return labelsFromLogits(output.data, dims, target, filter);
  if (resample === "nearest") {
    return resizeLabels(Uint16Array.from(output.data, (label) => Number(label) + 1), dims, target);
  }
  return restore(output.data, dims, target, filter);
}
