"""What a user does with the page in headless Chromium: the relief, points, the camera, and WebGPU."""

import cv2
import numpy as np
import pytest
from jobs.web.test_points_js import same
from support.mean_depth import depth_artifact
from support.tiny import exported
from support.web_page import click, give_photo, is_hidden, open_page, read_pfm, saved, screen, text_of

from dpt_deploy import load
from dpt_deploy.imaging.files import read_image
from dpt_deploy.imaging.points import PointOptions, ViewCamera
from dpt_deploy.jobs.predict.files import run_files

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
HEIGHT, WIDTH, JUMP = 160, 240, 120


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An artefact whose inverse depth is the brightness."""
    return depth_artifact(tmp_path_factory.mktemp("model")).path


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A smooth photo with one jump of brightness, at the column JUMP."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = (
        np.stack([60 + rows / 4, 90 + columns / 8, 60 + (rows + columns) / 8], 2) + 70 * (columns >= JUMP)[..., None]
    )
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    cv2.imwrite(str(path), pixels.round().astype(np.uint8)[..., ::-1])
    return path


@pytest.fixture(scope="module")
def page(model, photo, tmp_path_factory):
    with open_page(model, tmp_path_factory.mktemp("page"), *WEBGL, CAMERA[0]) as opened:
        give_photo(opened, photo)
        yield opened


@pytest.fixture
def relief(page):
    click(page, "turn")
    yield page
    click(page, "turn")


def difference(one, other):
    return np.abs(one.astype(float) - other).mean()


def test_the_front_of_the_relief_is_the_photo_without_the_jump(relief, photo):
    found = screen(relief, "relief")
    expected = cv2.resize(read_image(photo), found.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    middle = round(JUMP / WIDTH * found.shape[1])
    ground = screen(relief, "stage")[3, 20]
    inside = np.s_[20:-20, 20 : middle - 40]
    assert difference(found[inside], expected[inside]) < 2
    assert difference(np.flipud(found)[inside], expected[inside]) > 5  # a planted fault: upside down
    assert difference(found[20:-20, middle - 2 : middle + 2], ground) < 2  # what was cut shows the ground
    relief.evaluate("edge.value = 0; edge.dispatchEvent(new Event('change')); 0")
    kept = screen(relief, "relief")
    relief.evaluate("edge.value = 0.1; edge.dispatchEvent(new Event('change')); 0")
    assert difference(kept[20:-20, middle - 2 : middle + 2], ground) > 20


def press(page, key, **more):
    page.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def drag(page, x, y):
    mouse = {"button": "left", "buttons": 1, "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 80, y=y, **mouse)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 80, y=y, **mouse)


def swipe(page, x, y):
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": x + 80, "y": y}])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def pinch(page, x, y):
    for kind, apart in (("touchStart", 20), ("touchMove", 50)):
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def wheel(page, x, y):
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-120)


TURNS = {
    "key": lambda page, x, y: press(page, "ArrowRight"),
    "plus": lambda page, x, y: press(page, "+"),
    "mouse": drag,
    "wheel": wheel,
    "finger": swipe,
    "two fingers": pinch,
}


@pytest.mark.parametrize("turn", TURNS)
def test_each_way_of_turning_changes_the_picture_and_front_restores_it(turn, relief):
    front = screen(relief, "relief")
    box = relief.evaluate("document.getElementById('relief').getBoundingClientRect().toJSON()")
    TURNS[turn](relief, box["x"] + box["width"] / 3, box["y"] + 60)
    turned = screen(relief, "relief")
    assert difference(turned, front) > 0.5
    assert np.ptp(turned) > 100
    press(relief, "0")
    assert difference(screen(relief, "relief"), front) == 0


def test_relative_depth_is_called_relative(relief):
    assert "Relative depth, not metres" in text_of(relief, "scale")
    assert is_hidden(relief, "view")
    assert not relief.messages or all("WebGL" in each or "adapters" in each for each in relief.messages)


@pytest.mark.parametrize("width", [340, 1200])
def test_nothing_is_wider_than_the_screen(width, relief):
    relief.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    sizes = relief.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    relief.call("Emulation.clearDeviceMetricsOverride")
    assert sizes[0] <= sizes[1] <= width


def test_the_page_is_dark_where_the_system_is(page):
    levels = {}
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        levels[scheme] = np.median(screen(page, "times"))
    page.call("Emulation.setEmulatedMedia", features=[])
    assert levels["dark"] < 50 < 200 < levels["light"]


def test_every_control_is_reached_by_tab_and_a_key_opens_the_relief(page):
    page.evaluate("document.activeElement.blur(); document.body.focus(); 0")
    reached = []
    for _ in range(16):
        press(page, "Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"choose", "camera", "model", "size", "split", "turn", "ply", "degrees", "stride"} <= set(reached)
    page.evaluate("turn.focus()")
    press(page, "Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert page.evaluate("document.activeElement.id") == "relief"
    click(page, "turn")


@pytest.mark.parametrize(("degrees", "stride"), [(65, 1), (40.5, 3)])
def test_the_file_of_points_is_that_of_run(degrees, stride, page, model, photo, tmp_path):
    page.evaluate(
        f"document.getElementById('degrees').value = {degrees}; document.getElementById('stride').value = {stride}"
    )
    found = saved(page, "ply")
    files = {view: tmp_path / f"{view}.ply" for view in (degrees, degrees + 1)}
    for view, path in files.items():
        run_files(model, photo, path, points=PointOptions(ViewCamera(view), stride=stride))
    assert same(found, files[degrees].read_bytes())
    assert not same(found, files[degrees + 1].read_bytes())  # another camera is noticed
    assert "units relative (not metres)" in text_of(page, "status")
    assert all(url.startswith((page.origin, "blob:", "data:")) for url in page.requests)


def test_a_number_out_of_range_is_refused(page):
    page.evaluate("document.getElementById('degrees').value = 200")
    assert saved(page, "ply") == b""
    assert "Field of view, °: expected 1 to 179" in text_of(page, "status")
    page.evaluate("document.getElementById('degrees').value = 65")


def test_a_frame_of_the_camera_becomes_a_map(model, tmp_path):
    with open_page(model, tmp_path, *CAMERA) as page:
        click(page, "camera")
        page.wait_for("!document.getElementById('video').hidden")
        page.evaluate("window.stream = document.getElementById('video').srcObject; 0")
        click(page, "camera")
        page.wait_for("document.querySelector('#times tr')")
        found = read_pfm(saved(page, "pfm"))
        ended = page.evaluate("window.stream.getTracks().every((track) => track.readyState === 'ended')")
        assert (is_hidden(page, "video"), text_of(page, "camera"), ended) == (True, "Camera", True)
    assert found.shape == (480, 640)
    assert np.ptp(found) > 0.1


def test_a_dropped_photo_switches_the_camera_off(model, photo, tmp_path):
    with open_page(model, tmp_path, *CAMERA) as page:
        click(page, "camera")
        page.wait_for("!document.getElementById('video').hidden")
        page.evaluate("window.stream = document.getElementById('video').srcObject; 0")
        give_photo(page, photo)
        ended = page.evaluate("window.stream.getTracks().every((track) => track.readyState === 'ended')")
        assert (is_hidden(page, "video"), text_of(page, "camera"), ended) == (True, "Camera", True)


def test_without_camera_webgl_and_webgpu_the_page_says_so(model, photo, tmp_path):
    with open_page(model, tmp_path, "--disable-3d-apis") as page:
        click(page, "camera")
        page.wait_for("document.querySelector('#status.error')")
        assert "No camera was found" in text_of(page, "status")
        give_photo(page, photo)
        click(page, "turn")
        assert "no WebGL 2" in text_of(page, "status")
        assert is_hidden(page, "relief")
        assert page.evaluate("[...document.querySelectorAll('#backend option')].map((each) => each.value)") == ["wasm"]


def test_a_refused_camera_is_a_clear_message(page):
    denied = {"permission": {"name": "camera"}, "setting": "denied", "origin": page.origin}
    page.call("Browser.setPermission", **denied)
    click(page, "camera")
    page.wait_for("document.getElementById('status').innerText.includes('does not allow the camera')")
    assert is_hidden(page, "video")


def test_a_photo_is_dropped_and_a_map_of_classes_has_no_relief(photo, tmp_path):
    with open_page(exported("tiny-seg").path, tmp_path) as page:
        files = {"items": [], "files": [str(photo)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            page.call("Input.dispatchDragEvent", type=kind, x=200, y=300, data=files)
        page.wait_for("document.querySelector('#times tr')")
        assert [is_hidden(page, name) for name in ("map", "png", "turn", "ply", "pfm", "space")] == [False] * 2 + [
            True
        ] * 4


BROKEN = "Object.defineProperty(navigator, 'gpu', {value: {requestAdapter: async () => {%s}}});"


@pytest.mark.parametrize(
    ("flags", "before", "used"),
    [
        (WEBGPU, "", "webgpu"),
        ((), BROKEN % "return {features: new Set(), requestDevice() { throw new Error('broken'); }}", "wasm"),
        ((), BROKEN % "throw new Error('none')", "wasm"),
    ],
    ids=["adapter", "a GPU that fails", "an adapter that fails"],
)
def test_webgpu_is_used_where_it_works(flags, before, used, model, photo, tmp_path):
    with open_page(model, tmp_path, *flags, before=before) as page:
        offered = page.evaluate("document.querySelector('#backend').value")
        give_photo(page, photo)
        found, by = (
            read_pfm(saved(page, "pfm")),
            page.evaluate("document.querySelector('#times').rows[0].cells[2].innerText"),
        )
        notice = text_of(page, "notice")
    assert by == used
    assert ("WebGPU failed" in notice) == (offered != used)
    expected = load(model).predict(read_image(photo)).depth
    assert np.abs(found - expected).max() / np.ptp(expected) < 1e-3
