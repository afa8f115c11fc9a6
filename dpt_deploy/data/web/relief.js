// A photo and its depth as a surface, drawn by WebGL 2.

import { backProject, keptPixels } from "./points.js";

const LONGEST = 512; // vertices along the longer side; larger maps are thinned out
const CORNERS = 2; // triangles of a cell
const VERTEX = `#version 300 es
in vec3 point;
in vec2 place;
uniform mat4 view;
out vec2 at;
void main() {
  gl_Position = view * vec4(point, 1.0);
  at = place;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec2 at;
uniform sampler2D photo;
out vec4 colour;
void main() {
  colour = texture(photo, at);
}`;

/**
 * The surface {points, places, triangles} of a depth: x, y, z and the place in the photo (0 to 1) of each vertex, and
 * three vertices for each triangle. A cell is left out if it holds a pixel that `edge` drops, so nothing spans a jump.
 */
export function surface(depth, photo, camera, edge) {
  const step = Math.ceil(Math.max(photo.height, photo.width) / LONGEST);
  const kept = keptPixels(depth, photo, edge);
  const { points, rows, columns } = backProject(depth, photo, camera, step);
  const places = new Float32Array(2 * rows * columns);
  const triangles = new Uint32Array(3 * CORNERS * rows * columns);
  let used = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const i = row * columns + column;
      places.set([(column * step + 0.5) / photo.width, (row * step + 0.5) / photo.height], 2 * i);
      if (row + 1 === rows || column + 1 === columns) continue;
      if (!whole(kept, photo.width, row * step, column * step, step)) continue;
      triangles.set([i, i + columns, i + 1, i + 1, i + columns, i + columns + 1], used);
      used += 3 * CORNERS;
    }
  }
  return { points, places, triangles: triangles.subarray(0, used) };
}

function whole(kept, width, top, left, step) {
  for (let y = top; y <= top + step; y++) {
    for (let x = left; x <= left + step; x++) if (!kept[y * width + x]) return false;
  }
  return true;
}

/**
 * The matrix, column by column, from points of the camera to WebGL's clip space. The surface is turned by `yaw` and
 * `pitch` (radians) about the point on the optical axis at the depth `pivot`; `zoom` 1 without a turn is the photo.
 */
export function viewMatrix({ yaw, pitch, zoom }, { focal }, { height, width }, { pivot, nearest, farthest }) {
  const [c, s, d, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  const turn = [[c, 0, -s], [-t * s, d, -t * c], [d * s, t, d * c]];
  const shift = turn.map((row, i) => (i === 2 ? pivot / zoom : 0) - row[2] * pivot);
  const [near, far] = [nearest / 20, 4 * (farthest + pivot) * Math.max(1, 1 / zoom)];
  const row = (factor, i) => [...turn[i].map((value) => factor * value), factor * shift[i]];
  const deep = row(1, 2);
  const scaled = deep.map((value) => (value * (far + near)) / (far - near));
  scaled[3] -= (2 * far * near) / (far - near);
  const rows = [row((2 * focal) / width, 0), row((-2 * focal) / height, 1), scaled, deep];
  return Float32Array.from({ length: 16 }, (_, i) => rows[i % 4][Math.floor(i / 4)]);
}

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(made));
  return made;
}

/** A canvas that shows a surface; null where the browser has no WebGL 2. */
export function reliefOn(canvas) {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: true });
  if (!gl) return null;
  const drawing = program(gl);
  const buffers = { point: gl.createBuffer(), place: gl.createBuffer(), triangles: gl.createBuffer() };
  const texture = gl.createTexture();
  let count = 0;

  function attribute(name, values, size) {
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const place = gl.getAttribLocation(drawing, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, gl.FLOAT, false, 0, 0);
  }

  /** Load a surface and the picture of its photo. */
  function load({ points, places, triangles }, picture) {
    attribute("point", points, 3);
    attribute("place", places, 2);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.triangles);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, picture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    count = triangles.length;
  }

  /** Draw the surface by a matrix of `viewMatrix`. */
  function draw(matrix) {
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(drawing);
    gl.uniformMatrix4fv(gl.getUniformLocation(drawing, "view"), false, matrix);
    gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_INT, 0);
  }

  return { load, draw };
}
