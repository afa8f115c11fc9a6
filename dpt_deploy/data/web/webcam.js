// The camera: a live picture, and a photo of it.

const REASONS = {
  NotAllowedError: "The browser or the system does not allow the camera. Allow it for this page, or open a photo.",
  NotFoundError: "No camera was found. Connect one, or open a photo.",
  NotReadableError: "The camera cannot be read: another program may use it. Close that, or open a photo.",
};

/**
 * Let `button` start the camera in the element `video`, and take a photo of it; `taken(frame)` gets it. Returns {stop},
 * which switches the camera off.
 */
export function connectCamera(button, video, { started, taken, failed }) {
  const label = button.textContent;

  function stop() {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    video.hidden = true;
    button.textContent = label;
  }

  async function start() {
    if (!navigator.mediaDevices) return failed("The camera needs a page from https or from this machine itself.");
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
    started();
    video.hidden = false;
    button.textContent = "Take the photo";
  }

  async function take() {
    const frame = await createImageBitmap(video);
    stop();
    taken(frame);
  }

  button.addEventListener("click", async () => {
    button.disabled = true; // while the browser asks: a second stream would never be stopped
    try {
      await (video.hidden ? start() : take());
    } catch (error) {
      stop();
      failed(REASONS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    button.disabled = false;
  });
  return { stop };
}
