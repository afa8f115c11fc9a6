// Run a pipeline of transformers.js on a raw RGB image; print the result as JSON.
// Usage: node pipeline.mjs NPM_FOLDER FOLDER TASK DTYPE IMAGE HEIGHT WIDTH
// The processor takes the image as it is: its size is set to that of the image.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [npm, folder, task, dtype, image, height, width] = process.argv.slice(2);
const library = createRequire(pathToFileURL(`${npm}/`)).resolve("@huggingface/transformers");
const { pipeline, env, RawImage } = await import(pathToFileURL(library.replace(/\.cjs$/, ".mjs")));
env.allowRemoteModels = false;
env.localModelPath = "";
// On processors without VNNI, the default kernels cut sums of 8-bit products.
const session_options = { extra: { session: { x64quantprecision: "1" } } };
const run = await pipeline(task, folder, { ...(dtype && { dtype }), session_options });
const [rows, columns] = [Number(height), Number(width)];
run.processor.image_processor.size = { height: rows, width: columns };
const raw = new RawImage(new Uint8ClampedArray(readFileSync(image)), columns, rows, 3);
const found = await run(raw);
if (task === "depth-estimation") {
  console.log(JSON.stringify({ dims: found.predicted_depth.dims, values: Array.from(found.predicted_depth.data) }));
} else {
  const inputs = await run.processor([raw]);
  const { logits } = await run.model(inputs);
  const masks = found.map((each) => ({ label: each.label, mask: Array.from(each.mask.data) }));
  console.log(JSON.stringify({ dims: logits.dims, values: Array.from(logits.data), masks }));
}
