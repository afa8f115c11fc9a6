// Mouse, touch and keyboard turn a view {yaw, pitch, zoom}.

const FRONT = { yaw: 0, pitch: 0, zoom: 1 };
const STEP = 0.1; // radians of one press of a key
const STEEPEST = 1.5; // radians
const [FARTHEST, CLOSEST] = [0.2, 8]; // zoom
const KEYS = {
  ArrowLeft: { yaw: -STEP },
  ArrowRight: { yaw: STEP },
  ArrowUp: { pitch: -STEP },
  ArrowDown: { pitch: STEP },
  "+": { zoom: 1.2 },
  "=": { zoom: 1.2 },
  "-": { zoom: 1 / 1.2 },
};

/** Let the user turn what `canvas` shows; `changed(view)` is called after each step. Returns a function to reset it. */
export function orbit(canvas, changed) {
  let view = { ...FRONT };
  const fingers = new Map();

  function move({ yaw = 0, pitch = 0, zoom = 1 }) {
    view = {
      yaw: view.yaw + yaw,
      pitch: Math.min(Math.max(view.pitch + pitch, -STEEPEST), STEEPEST),
      zoom: Math.min(Math.max(view.zoom * zoom, FARTHEST), CLOSEST),
    };
    changed(view);
  }

  function reset() {
    view = { ...FRONT };
    changed(view);
  }

  const span = () => {
    const [one, other] = [...fingers.values()];
    return Math.hypot(one.x - other.x, one.y - other.y);
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const wide = fingers.size === 2 ? span() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (wide) return move({ zoom: span() / wide });
    const half = canvas.clientWidth / 2; // of the width: one radian
    move({ yaw: (event.clientX - before.x) / half, pitch: (event.clientY - before.y) / half });
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    move({ zoom: Math.exp(-Math.sign(event.deltaY) / 10) });
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0" || event.key === "Home") reset();
    else if (KEYS[event.key]) move(KEYS[event.key]);
    else return;
    event.preventDefault();
  });
  return reset;
}
