"""Compare outputs of the C++ runtime and Python on photographs, one thread each; fails if more than rounding differs.

The photographs are scikit-image's. Depth is compared relative to its range, labels by the share of equal ones.

Usage: make cpp; python benchmarks/native_parity.py RESULT.json MODEL.onnx…
"""

import datetime
import json
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np
from skimage import data

import dpt_deploy

PHOTOGRAPHS = {"coffee": data.coffee(), "chelsea": data.chelsea(), "astronaut": data.astronaut()}
MAX_OF_RANGE, LABELS = 1e-6, 0.9999  # the same graph in the same library; ties of scores are summed in another order


def _compared(python, cpp):
    if python.labels is not None:
        return {
            "equal_labels": float(np.mean(python.labels == cpp.labels)),
            "classes_seen": len(np.unique(python.labels)),
        }
    error = np.abs(cpp.depth.astype(np.float64) - python.depth).max() / np.ptp(python.depth)
    return {"max_of_range": float(error), "equal_in_every_bit": bool(np.array_equal(python.depth, cpp.depth))}


def _held(model):
    sidecar = json.loads(Path(f"{model}.json").read_text())
    found = {"model": Path(model).stem, "task": sidecar["model"]["task"], "precision": sidecar["precision"]}
    found["weights"] = {key: sidecar["weights"][key] for key in ("kind", "seed")}
    with ExitStack() as stack:
        opened = [stack.enter_context(dpt_deploy.load(model, runtime=name, threads=1)) for name in ("ort", "native")]
        found["photographs"] = []
        for name, image in PHOTOGRAPHS.items():
            python, cpp = (predict(image) for predict in opened)
            sizes = {"photograph": name, "pixels": image.shape[:2], "network": str(python.network_size)}
            found["photographs"].append(sizes | _compared(python, cpp))
    return found


def main(target, *models):
    done = {"kind": "native-parity", "threads": 1, "limits": {"max_of_range": MAX_OF_RANGE, "equal_labels": LABELS}}
    done["recorded"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    done["processor"] = Path("/proc/cpuinfo").read_text().partition("model name")[2].splitlines()[0].strip(" \t:")
    done["tools"] = {name: version(name) for name in ("dpt-deploy", "onnxruntime", "numpy")}
    done["models"] = [_held(model) for model in models]
    Path(target).write_text(json.dumps(done, indent=2) + "\n")
    cases = [case for model in done["models"] for case in model["photographs"]]
    bad = [
        case
        for case in cases
        if not (case.get("max_of_range", 0) <= MAX_OF_RANGE and case.get("equal_labels", 1) >= LABELS)
    ]
    if bad:
        sys.exit(f"C++ and Python differ: {json.dumps(bad)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
