// The page: settings, photo, map, slider and files.

import { backends, mapOf } from "./inference.js";
import { connectSpace } from "./space.js";
import { coloured, pfm, save } from "./viewer.js";
import { connectCamera } from "./webcam.js";

const $ = (id) => document.getElementById(id);
const FACTORS = [1, 0.75, 0.5, 1.5];
const MAX_SIDE = 2048; // of photos; larger ones are scaled down by the browser
const space = connectSpace($, tell, () => ({ photo, map, model: map?.model }));
let models = [];
let photo = null;
let map = null;
let busy = false;
let stale = false;
let webcam = null;

function tell(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

function rule() {
  const { image, stride } = models[$("model").value];
  const factor = Number($("size").value);
  if (factor === 1) return image;
  const side = (length) => Math.max(Math.round((length * factor) / stride), 1) * stride;
  return { ...image, height: side(image.height), width: side(image.width) };
}

function showSizes() {
  const model = models[$("model").value];
  const factors = model.static ? [1] : FACTORS;
  const side = (length, factor) => Math.max(Math.round((length * factor) / model.stride), 1) * model.stride;
  const text = (f) => (f === 1 ? `${model.image.height} × ${model.image.width}` :
    `${side(model.image.height, f)} × ${side(model.image.width, f)}`);
  fill($("size"), factors.map((factor) => [factor, text(factor)]));
}

async function open(source) {
  webcam.stop();
  let bitmap;
  try {
    bitmap = source instanceof Blob ? await createImageBitmap(source) : source;
  } catch {
    tell("This file is no picture that the browser can read.", true);
    return;
  }
  const shrink = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = $("photo");
  canvas.width = Math.max(1, Math.round(bitmap.width * shrink));
  canvas.height = Math.max(1, Math.round(bitmap.height * shrink));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  photo = { data, width, height, channels: 4 };
  map = null;
  $("empty").hidden = true;
  space.close();
  $("map").hidden = $("line").hidden = true;
  $("slider").hidden = $("results").hidden = true;
  await compute();
}

async function compute() {
  if (!photo) return;
  stale = busy;
  if (busy) return;
  busy = true;
  const model = models[$("model").value];
  tell("Computing…");
  await new Promise((next) => setTimeout(next)); // lets the browser paint
  try {
    const given = photo;
    const found = await computed(given, model);
    if (given === photo) show((map = { ...found, model }), model);
  } catch (error) {
    tell(`The model could not run: ${error.message}`, true);
  }
  busy = false;
  if (stale) await compute();
}

/** The map by the chosen backend. A GPU that fails is not offered again: WebAssembly takes its place. */
async function computed(given, model) {
  const backend = $("backend").value;
  try {
    return await mapOf(given, model, rule(), backend);
  } catch (error) {
    if (backend !== "webgpu") throw error;
    $("backend").querySelector("[value=webgpu]").remove();
    $("notice").textContent = `WebGPU failed, so WebAssembly is used: ${error.message}`;
    return mapOf(given, model, rule(), $("backend").value);
  }
}

function show({ milliseconds, size }, model) {
  const canvas = $("map");
  canvas.width = map.width;
  canvas.height = map.height;
  canvas.getContext("2d").putImageData(coloured(map, model.palette), 0, 0);
  canvas.hidden = $("line").hidden = $("slider").hidden = $("results").hidden = false;
  $("pfm").hidden = map.ofClasses;
  split();
  const time = `${milliseconds.toFixed(0)} ms`;
  const row = $("times").insertRow(0);
  for (const text of [`${model.name} ${model.precision}`, size.join(" × "), $("backend").value, time]) {
    row.insertCell().textContent = text;
  }
  const weights = model.random ? `, weights ${model.weights}` : "";
  tell(`${model.output.quantity || "classes"}, ${size.join(" × ")} (height × width), ${time}${weights}`);
  space.show();
}

function split() {
  const share = $("split").value;
  $("map").style.clipPath = `inset(0 0 0 ${share}%)`;
  $("line").style.left = `calc(${share}% - 1px)`;
}

function connect() {
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => $("file").files[0] && open($("file").files[0]));
  webcam = connectCamera($("camera"), $("video"), {
    started: () => {
      space.close();
      for (const id of ["empty", "view", "slider", "results"]) $(id).hidden = true;
      tell("");
    },
    taken: open,
    failed: (reason) => tell(reason, true),
  });
  $("split").addEventListener("input", split);
  $("model").addEventListener("change", () => (showSizes(), compute()));
  for (const id of ["size", "backend"]) $(id).addEventListener("change", compute);
  $("png").addEventListener("click", () => $("map").toBlob((blob) => save(blob, "map.png")));
  $("pfm").addEventListener("click", () => save(new Blob([pfm(map)]), "map.pfm"));
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      $("stage").classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
    });
  }
}

async function start() {
  const found = await backends();
  if (!found.length) return tell("This browser has no WebAssembly, which the model needs.", true);
  try {
    models = (await (await fetch("site.json")).json()).models;
  } catch {
    return tell("site.json cannot be read: open the page through a web server (dpt-deploy web --serve).", true);
  }
  fill($("model"), models.map((model, index) => [index, `${model.name} ${model.precision}`]));
  fill($("backend"), found.map((name) => [name, name === "webgpu" ? "WebGPU" : "WebAssembly"]));
  showSizes();
  connect();
  tell("");
}

await start();
