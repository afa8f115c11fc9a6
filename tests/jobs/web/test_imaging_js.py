"""The page's arithmetic (data/web/imaging.js), run by Node on the golden vectors that Python and C++ reproduce."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.make_imaging_golden import GOLDEN
from support.paths import ROOT

pytestmark = [
    pytest.mark.fast,
    pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed (Debian: nodejs)"),
]
WEB = ROOT / "dpt_deploy/data/web"
SCRIPT = Path(__file__).with_name("imaging.mjs")
DOCUMENT = json.loads((GOLDEN / "imaging.json").read_text("utf-8"))
ENCODERS = ("depth_to_uint16", "metric_to_uint16")  # 16-bit PNGs, which the page does not write
CASES = [case for case in DOCUMENT["cases"] if case["function"] not in ENCODERS]


def computed(modules, folder):
    """Sizes and outputs that Node computes with the modules of a folder; ``folder`` is for scratch files."""
    with np.load(GOLDEN / "imaging.npz") as stored:
        inputs = [stored[f"{case['name']}.input"] for case in CASES]
    cases = [case | {"input": _encoded(values)} for case, values in zip(CASES, inputs, strict=True)]
    (folder / "cases.json").write_text(json.dumps({"sizes": DOCUMENT["sizes"], "cases": cases}))
    command = ["node", str(SCRIPT), str(modules), str(folder / "cases.json")]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def _encoded(values):
    return {
        "dtype": values.dtype.name,
        "shape": values.shape,
        "base64": base64.b64encode(values.tobytes()).decode(),
    }


def differing(outputs):
    """Names of the cases whose output is not the golden one in every bit."""
    with np.load(GOLDEN / "imaging.npz") as stored:
        return [
            case["name"]
            for case, found in zip(CASES, outputs, strict=True)
            if base64.b64decode(found) != stored[f"{case['name']}.output"].tobytes()
        ]


def with_fault(folder, old, new):
    """A copy of the modules in which ``old`` is replaced."""
    copy = folder / "modules"
    shutil.copytree(WEB, copy)
    (copy / "package.json").write_text('{"type": "module"}')
    text = (copy / "imaging.js").read_text("utf-8")
    assert text.count(old) == 1
    (copy / "imaging.js").write_text(text.replace(old, new), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    modules = with_fault(tmp_path_factory.mktemp("js"), "single(-0.75)", "single(-0.75)")  # none
    return computed(modules, tmp_path_factory.mktemp("cases"))


def test_the_golden_vectors_bit_for_bit(found):
    assert differing(found["outputs"]) == []


def test_the_golden_sizes(found):
    assert found["sizes"] == [entry["expected"] for entry in DOCUMENT["sizes"]]


@pytest.mark.parametrize(
    ("old", "new", "function"),
    [
        ("(i + 0.5) * step - 0.5", "i * step", "preprocess"),
        ("const CUBIC = single(-0.75)", "const CUBIC = single(-0.5)", "resize_bicubic"),
        ("found[i] > best[i]", "found[i] < best[i]", "labels_from_logits"),
        ("Math.max(position(i), 0)", "position(i)", "restore"),
    ],
)
def test_the_golden_vectors_notice_a_planted_fault(old, new, function, tmp_path):
    names = differing(computed(with_fault(tmp_path, old, new), tmp_path)["outputs"])
    assert any(function in name for name in names)
