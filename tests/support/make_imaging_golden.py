"""Golden vectors of ``dpt_deploy.imaging``, for Python and for a runtime in another language.

``python tests/support/make_imaging_golden.py`` writes ``tests/golden/imaging.json`` (sizes, and the cases with their
arguments) and ``tests/golden/imaging.npz`` (arrays ``<case>.input`` and ``<case>.output``, stored uncompressed). The
outputs are bit-exact on any machine; ``labels_from_logits`` multiplies matrices, so its input has no near-ties.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.imaging import encode, resample, rules

GOLDEN = Path(__file__).parents[1] / "golden"
HALF, IMAGENET = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGES = [(480, 640), (640, 480), (375, 1242), (1080, 1920), (1920, 1080), (384, 400), (256, 768), (1, 1), (3, 2000)]
TARGETS = [
    ((384, 384, "minimal"), 32),
    ((480, 480, "minimal"), 32),
    ((352, 1216, "minimal"), 32),
    ((384, 384, "upper_bound"), 32),
    ((518, 518, "lower_bound"), 14),
]


def spec_of(height, width, resize, normalisation=HALF, keep_aspect=True):
    return ImageSpec(height, width, resize, *normalisation, keep_aspect)


def run_case(case, values):
    """Output of the current code for one entry of ``cases``."""
    arguments = dict(case["arguments"])
    if "spec" in arguments:
        arguments["spec"] = ImageSpec(**arguments["spec"])
    if "size" in arguments:
        arguments["size"] = Size(*arguments["size"])
    home = next(module for module in (rules, resample, encode) if hasattr(module, case["function"]))
    return getattr(home, case["function"])(values, **arguments)


def _pictures(rng):
    noise = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    rows, cols = np.mgrid[:70, :40]
    steps = np.stack([rows * 3, cols * 6, (rows // 8 + cols // 8) % 2 * 255], -1).astype(np.uint8)  # slopes, hard edges
    return noise, steps


def _inputs():
    rng = np.random.default_rng(5)
    noise, steps = _pictures(rng)
    small, tall = asdict(spec_of(32, 32, "minimal")), asdict(spec_of(64, 32, "upper_bound", IMAGENET))
    yield "preprocess", noise, {"spec": small, "stride": 32}
    yield "preprocess", steps, {"spec": small, "stride": 32}
    yield "preprocess", steps, {"spec": tall, "stride": 32}
    yield "preprocess", noise[:32, :32], {"spec": small, "stride": 32}
    yield "preprocess", noise[:9, :5], {"spec": asdict(spec_of(28, 28, "lower_bound")), "stride": 14}
    yield "preprocess", noise[:1, :1], {"spec": asdict(spec_of(32, 64, "minimal", keep_aspect=False)), "stride": 32}
    yield "resize_uint8_input", steps, {"spec": small, "stride": 32}
    depth = rng.gamma(2.0, 500.0, (12, 20)).astype(np.float32)
    for size in ((27, 43), (9, 7), (12, 20), (1, 64)):
        yield "resize_bicubic", depth, {"size": size}
    odd = depth.copy()
    odd.flat[:3] = np.nan, np.inf, -np.inf
    for values in (depth, odd, depth.astype(np.float16), np.full((3, 4), 7, np.float32)):
        yield "depth_to_uint16", values, {}
    yield "metric_to_uint16", odd, {"png_scale": 256.0}
    blobs = np.kron(rng.permutation(np.eye(6, dtype=np.float32) * 5).reshape(6, 2, 3), np.ones((1, 4, 4), np.float32))
    yield "labels_from_logits", blobs + rng.random(blobs.shape, np.float32), {"size": (19, 30)}
    yield "resize_labels", rng.integers(0, 151, (6, 9)).astype(np.uint16), {"size": (17, 5)}
    for rule in ("bilinear", "bilinear-corners"):
        for values, size in ((depth, (27, 43)), (depth, (1, 64)), (depth[:1], (5, 1))):
            yield "restore", values, {"size": size, "rule": rule}
    yield "labels_from_logits", blobs + rng.random(blobs.shape, np.float32), {"size": (19, 30), "rule": "bilinear"}


def golden():
    """The document and the arrays, as they are written."""
    cases, arrays = [], {}
    for number, (function, values, arguments) in enumerate(_inputs()):
        case = {"name": f"{number:02}_{function}", "function": function, "arguments": arguments}
        arrays[case["name"] + ".input"] = np.ascontiguousarray(values)
        arrays[case["name"] + ".output"] = np.ascontiguousarray(run_case(case, values))
        cases.append(case)
    sizes = []
    for target, stride in TARGETS:
        spec = spec_of(*target)
        for image in IMAGES:
            size = rules.network_size(*image, spec, stride)
            entry = {"image": image, "spec": asdict(spec), "stride": stride, "expected": (size.height, size.width)}
            sizes.append(entry)
    return {"order": "height, width", "sizes": sizes, "cases": cases}, arrays


def _json(value):
    """One entry a line, so that a change reads well in a diff."""
    return json.dumps(value) if isinstance(value, str) else "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"


if __name__ == "__main__":
    document, arrays = golden()
    text = ",\n".join(f'"{key}": {_json(value)}' for key, value in document.items())
    (GOLDEN / "imaging.json").write_text("{\n" + text + "\n}\n", "utf-8")
    np.savez(GOLDEN / "imaging.npz", **arrays)
