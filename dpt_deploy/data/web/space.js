// The photo in space: the relief, its file of points, and the numbers that both need.

import { orbit } from "./orbit.js";
import { depthOf, ply, pointCloud, viewCamera } from "./points.js";
import { reliefOn, surface, viewMatrix } from "./relief.js";
import { save } from "./viewer.js";

const LONGEST = 1280; // pixels of the drawing
const NO_WEBGL = "This browser has no WebGL 2, which the relief needs. The PLY file opens in other viewers.";
const NUMBERS = ["degrees", "ratio", "edge", "stride"];

/**
 * Connect the controls. `current()` is {photo, map, model}, `tell` shows a message. Returns {show, close}: `show` after
 * each new map, `close` when there is none.
 */
export function connectSpace($, tell, current) {
  let drawing = null;
  let scene = null;

  function numbers() {
    for (const name of NUMBERS) {
      const { validity, labels, min, max } = $(name);
      if (validity.valid) continue;
      const range = max ? `${min} to ${max}` : `a whole number, at least ${min}`;
      throw new RangeError(`${labels[0].firstChild.textContent.trim()}: expected ${range}`);
    }
    return Object.fromEntries(NUMBERS.map((name) => [name, $(name).valueAsNumber]));
  }

  function geometry() {
    const { photo, map, model } = current();
    const given = numbers();
    const camera = viewCamera(photo, given.degrees);
    return { photo, camera, given, found: depthOf(map, model.output, camera, given.ratio) };
  }

  /** Run a step whose numbers come from the user; true if they were fine. */
  function tried(step) {
    try {
      step();
      return true;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      tell(error.message, true);
      return false;
    }
  }

  function build() {
    const { photo, camera, given, found } = geometry();
    const { points, places, triangles } = surface(found.depth, photo, camera, given.edge);
    if (!triangles.length) throw new RangeError("nothing is left of the surface: cut larger jumps only, or none (0)");
    const depths = Float32Array.from(triangles, (vertex) => points[3 * vertex + 2]).sort();
    const limits = { pivot: depths[depths.length >> 1], nearest: depths[0], farthest: depths[depths.length - 1] };
    const canvas = $("relief");
    const scale = LONGEST / Math.max(photo.width, photo.height);
    canvas.width = Math.max(1, Math.round(photo.width * scale));
    canvas.height = Math.max(1, Math.round(photo.height * scale));
    drawing.load({ points, places, triangles }, $("photo"));
    scene = { photo, camera, limits };
    $("scale").textContent = found.metric
      ? "Depth in metres, by the field of view below."
      : `Relative depth, not metres: the farthest point is assumed to be ${given.ratio} times as far as the nearest.`;
    reset();
  }

  const reset = orbit($("relief"), (view) => {
    if (scene) drawing.draw(viewMatrix(view, scene.camera, scene.photo, scene.limits));
  });

  function open(shown) {
    $("relief").hidden = $("turning").hidden = !shown;
    $("view").hidden = shown;
    $("slider").hidden = shown;
    $("turn").setAttribute("aria-pressed", String(shown));
  }

  function toggle() {
    if (!$("relief").hidden) return open(false);
    drawing ??= reliefOn($("relief"));
    if (!drawing) return tell(NO_WEBGL, true);
    if (!tried(build)) return;
    open(true);
    $("relief").focus();
  }

  function savePoints() {
    tried(() => {
      const { photo, camera, given, found } = geometry();
      const cloud = pointCloud(found, photo, camera, given);
      save(new Blob([ply(cloud)]), "points.ply");
      tell(`${cloud.points.length / 3} points, ${cloud.note}`);
    });
  }

  $("turn").addEventListener("click", toggle);
  $("front").addEventListener("click", reset);
  $("ply").addEventListener("click", savePoints);
  for (const name of NUMBERS) $(name).addEventListener("change", () => tried($("relief").hidden ? numbers : build));
  $("relief").addEventListener("webglcontextlost", () => {
    open(false);
    drawing = scene = null;
    tell("The graphics device was lost. Reload the page to see the relief again.", true);
  });

  return {
    show() {
      const { map, model } = current();
      for (const name of ["turn", "ply", "space"]) $(name).hidden = map.ofClasses;
      $("ratio").parentElement.hidden = ["metres", "canonical depth"].includes(model.output.quantity);
      if (!$("relief").hidden) open(!map.ofClasses && tried(build));
    },
    close: () => open(false),
  };
}
