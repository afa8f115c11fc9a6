// Runs the cases of a JSON file through points.js and prints each file of points in base64, or the message of a refusal.
//   node points.mjs FOLDER_OF_MODULES CASES.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, file] = process.argv.slice(2);
const { depthOf, ply, pointCloud, viewCamera } = await import(pathToFileURL(`${folder}/points.js`));

function bytesOf(text) {
  return Uint8Array.from(Buffer.from(text, "base64"));
}

function made({ height, width, values, colours, output, size, degrees, ratio, edge, stride }) {
  const photo = { height, width, data: bytesOf(colours), channels: 4 };
  const map = { height, width, size, values: new Float32Array(bytesOf(values).buffer) };
  const camera = viewCamera(photo, degrees);
  return ply(pointCloud(depthOf(map, output, camera, ratio), photo, camera, { stride, edge }));
}

const found = JSON.parse(readFileSync(file, "utf8")).map((each) => {
  try {
    return { base64: Buffer.from(made(each)).toString("base64") };
  } catch (error) {
    return { refused: error.message };
  }
});
console.log(JSON.stringify(found));
