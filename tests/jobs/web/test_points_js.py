"""Points of the page (data/web/points.js), run by Node, against those of Python on maps with jumps and gaps."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT

from dpt_deploy.imaging.point_files import ply_bytes
from dpt_deploy.imaging.points import PointOptions, ViewCamera, point_cloud

pytestmark = [
    pytest.mark.fast,
    pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed (Debian: nodejs)"),
]
WEB, SCRIPT = ROOT / "dpt_deploy/data/web", Path(__file__).with_name("points.mjs")
CANONICAL_FOCAL = 300.0


def case(quantity, seed=0, *, degrees=65.0, ratio=10.0, edge=0.1, stride=1, flat=False):
    """A smooth map with a jump and gaps, its photo, and the options of both sides."""
    rng = np.random.default_rng(seed)
    height, width = 30 + seed, 41
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    values = 2 + rows / 50 + 3 * (columns > 20) + rng.random((height, width), np.float32) / 9
    values = (np.full_like(values, 4) if flat else values).astype(np.float32)
    gaps = [np.nan, np.inf] if flat else [np.nan, np.inf, -1, 0]
    values.flat[rng.integers(0, values.size, 12)] = rng.choice(gaps, 12)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    options = {"degrees": degrees, "ratio": ratio, "edge": edge, "stride": stride}
    return {"quantity": quantity, "values": values, "photo": photo, "size": [64, 96], **options}


CASES = [
    case("metres"),
    case("metres", 1, degrees=90, stride=3),
    case("inverse depth", 2),
    case("inverse depth", 3, ratio=4.5, edge=0.02, stride=2),
    case("inverse depth", 7, flat=True, edge=0),
    case("relative depth", 4, edge=0),
    case("relative depth", 5, flat=True),
    case("canonical depth", 6, degrees=40.5),
]


def python_file(given):
    """The PLY that ``run --format ply`` writes of a map."""
    values, quantity = given["values"], given["quantity"]
    camera = ViewCamera(given["degrees"])
    if quantity == "canonical depth":  # dpt_deploy.imaging.maps, as its documentation states it
        (height, width), (tall, wide) = values.shape, given["size"]
        focal = width / (2 * np.tan(np.radians(given["degrees"]) / 2))
        values = values * np.float32((focal * wide / width + focal * tall / height) / 2 / CANONICAL_FOCAL)
        quantity = "metres"
    options = PointOptions(camera, stride=given["stride"], edge=given["edge"], ratio=given["ratio"])
    return ply_bytes(point_cloud(values, given["photo"], quantity, options))


def page_files(cases, folder):
    """Node's results with the modules in ``folder``, or those of the page: bytes, or the message of a refusal."""
    documents = []
    for each in cases:
        height, width = each["values"].shape
        photo = np.dstack([each["photo"], np.full((height, width), 255, np.uint8)])
        packed = {
            name: base64.b64encode(array.tobytes()).decode()
            for name, array in (("values", each["values"]), ("colours", photo))
        }
        output = {"quantity": each["quantity"], "focal": CANONICAL_FOCAL}
        documents.append({**each, "photo": None, **packed, "output": output, "height": height, "width": width})
    (folder / "cases.json").write_text(json.dumps(documents))
    copy = folder / "modules"
    if not copy.exists():
        shutil.copytree(WEB, copy)
    (copy / "package.json").write_text('{"type": "module"}')
    command = ["node", str(SCRIPT), str(copy), str(folder / "cases.json")]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return [base64.b64decode(each["base64"]) if "base64" in each else each["refused"] for each in answer]


def numbers(file):
    """Head, points (N, 3) and colours (N, 3) of a PLY."""
    head, _, body = file.partition(b"end_header\n")
    rows = np.frombuffer(body, [("points", "<f4", 3), ("colours", "u1", 3)])
    return head, rows["points"], rows["colours"]


def same(found, expected):
    """True if head, count and colours are equal, and each coordinate to 1e-4 of the depth."""
    if isinstance(found, str):
        return False
    (head, points, colours), (wanted, exact, paint) = numbers(found), numbers(expected)
    return (head, colours.tobytes()) == (wanted, paint.tobytes()) and bool(
        (np.abs(points - exact) <= 1e-4 * exact[:, 2:]).all()
    )


def test_each_point_is_that_of_python(tmp_path):
    for given, found in zip(CASES, page_files(CASES, tmp_path), strict=True):
        expected = python_file(given)
        assert 0 < len(numbers(expected)[1]) < given["values"].size  # something is kept, something dropped
        assert same(found, expected), given["quantity"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("points[i] = across * z", "points[i] = down * z"),
        ("cx: (width - 1) / 2", "cx: width / 2"),
        ("(a < b ? a : b)", "(a < b ? b : a)"),
        ("row * stride * width", "row * width"),
        ("1 - share", "0 - share"),
        ("camera.focal * width", "camera.focal * height"),
        ("Number(near)", "Number(!near)"),
        ('"units metres"', '"units feet"'),
    ],
)
def test_a_planted_fault_is_noticed(right, wrong, tmp_path):
    shutil.copytree(WEB, tmp_path / "modules")
    module = tmp_path / "modules/points.js"
    text = module.read_text("utf-8")
    assert right in text
    module.write_text(text.replace(right, wrong), encoding="utf-8")
    found = page_files(CASES, tmp_path)
    assert not all(same(one, python_file(given)) for one, given in zip(found, CASES, strict=True))


def test_numbers_out_of_range_are_refused(tmp_path):
    empty = case("metres") | {"values": np.zeros((4, 4), np.float32), "photo": np.zeros((4, 4, 3), np.uint8)}
    cases = [case("metres", degrees=180), case("inverse depth", ratio=1.0), case("other"), empty]
    found = page_files(cases, tmp_path)
    expected = ("expected 0 to 180", "expected a number above 1", "no depth follows from other", "no pixel has a depth")
    assert all(message in text for message, text in zip(expected, found, strict=True))
