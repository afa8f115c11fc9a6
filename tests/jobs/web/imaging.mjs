// Runs the golden cases of a JSON file through imaging.js and prints the outputs' bytes in base64.
//   node imaging.mjs FOLDER_OF_MODULES CASES.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, file] = process.argv.slice(2);
const imaging = await import(pathToFileURL(`${folder}/imaging.js`));
const { sizes, cases } = JSON.parse(readFileSync(file, "utf8"));
const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };

function values({ dtype, base64 }) {
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"));
  return new ARRAYS[dtype](bytes.buffer);
}

const CALLS = {
  preprocess: (data, shape, args) => imaging.preprocess(image(data, shape), args.spec, args.stride).data,
  resize_uint8_input: (data, shape, args) => imaging.resizeUint8Input(image(data, shape), args.spec, args.stride).data,
  resize_bicubic: (data, shape, args) => imaging.restore(data, shape, args.size),
  restore: (data, shape, args) => imaging.restore(data, shape, args.size, args.rule),
  labels_from_logits: (data, shape, args) => imaging.labelsFromLogits(data, shape, args.size, args.rule),
  resize_labels: (data, shape, args) => imaging.resizeLabels(data, shape, args.size),
};

function image(data, [height, width, channels]) {
  return { data, height, width, channels };
}

const outputs = cases.map((each) => {
  const found = CALLS[each.function](values(each.input), each.input.shape, each.arguments);
  return Buffer.from(found.buffer, found.byteOffset, found.byteLength).toString("base64");
});
const found = sizes.map((each) => imaging.networkSize(...each.image, each.spec, each.stride));
console.log(JSON.stringify({ sizes: found, outputs }));
