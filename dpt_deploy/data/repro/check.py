"""Run model.onnx in ONNX Runtime and compare its outputs with the expected ones. Needs numpy and onnxruntime.

The exit code is 1 if an output is wrong. Usage: python check.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(__file__).parent
facts = json.loads((folder / "repro.json").read_text(encoding="utf-8"))
inputs = {entry["name"]: np.load(folder / entry["file"]) for entry in facts["inputs"]}
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
wrong = False
for entry in facts["outputs"]:
    (found,) = session.run([entry["name"]], inputs)
    expected = np.load(folder / entry["file"])
    if found.shape != expected.shape:
        sys.exit(f"{entry['name']}: shape {list(found.shape)}, expected {list(expected.shape)}")
    if expected.dtype.kind == "f":
        error = np.abs(found.astype(np.float64) - expected)
        error = error / entry["range"] if entry["range"] else np.where(error, np.inf, 0.0)
    else:
        error = (found != expected).astype(np.float64)
    largest, mean = float(error.max()), float(error.mean())
    if expected.dtype.kind == "f":
        right = largest <= entry["allowed"]["max"] and mean <= entry["allowed"]["mean"]
    else:
        right = mean <= entry["allowed"]["disagreement"]
    wrong = wrong or not right
    print(f"{entry['name']}: max {largest:.2e}, mean {mean:.2e} of range: {'right' if right else 'WRONG'}")
sys.exit(int(wrong))
