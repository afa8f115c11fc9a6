"""The page of ``dpt-deploy web`` in headless Chromium, and what a user does with it."""

import base64
import threading
from contextlib import contextmanager

import cv2
import numpy as np
from support.chromium import chromium_page
from support.npm import npm_folder

from dpt_deploy.jobs.web.server import make_server
from dpt_deploy.jobs.web.site import write_site


def served(folder):
    """A running server of a folder; call its ``shutdown``."""
    server = make_server(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@contextmanager
def open_page(model, folder, *flags, before=""):
    """The page of one model in a new browser: ``page.origin`` is its address, ``before`` a script that runs first."""
    site = write_site([model], folder / "site", runtime=npm_folder() / "node_modules/onnxruntime-web")
    with served(site) as server, chromium_page(folder / "profile", *flags) as page:
        page.origin = f"http://127.0.0.1:{server.server_port}/"
        page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        page.call("Page.navigate", url=page.origin)
        page.wait_for("document.querySelector('#model option')")
        yield page
        server.shutdown()


def click(page, name):
    page.evaluate(f"document.getElementById('{name}').click()")


def text_of(page, name):
    return page.evaluate(f"document.getElementById('{name}').innerText")


def is_hidden(page, name):
    return page.evaluate(f"document.getElementById('{name}').hidden")


def give_photo(page, path):
    """Open a photo and wait for its map."""
    rows = page.evaluate("document.querySelectorAll('#times tr').length")
    page.give_file("#file", path)
    page.wait_for(f"document.querySelectorAll('#times tr').length > {rows}")


def saved(page, button):
    """Bytes of the file that a button offers; empty if there is none."""
    page.evaluate("window.saved = new Blob(); URL.createObjectURL = (blob) => ((window.saved = blob), 'blob:none'); 0")
    click(page, button)
    script = """window.saved.arrayBuffer().then((buffer) => {
        let text = '';
        for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
        return btoa(text);
    })"""
    return base64.b64decode(page.evaluate(script))


def read_pfm(data):
    """The map (H, W) of a PFM file."""
    size, _, body = data.removeprefix(b"Pf\n").partition(b"\n-1\n")
    width, height = map(int, size.split())
    return np.frombuffer(body, "<f4").reshape(height, width)[::-1]


def screen(page, name):
    """Pixels (H, W, 3) in RGB of an element, as the screen shows them."""
    page.evaluate("new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))")
    box = page.evaluate(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
    left, top = page.evaluate("[scrollX, scrollY]")
    clip = {"x": box["x"] + left, "y": box["y"] + top, "width": box["width"], "height": box["height"], "scale": 1}
    data = base64.b64decode(page.call("Page.captureScreenshot", clip=clip)["data"])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
