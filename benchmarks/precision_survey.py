"""Export, compare, load and build networks in every precision; adds to results/precisions.json.

Usage: python benchmarks/precision_survey.py [NETWORK…]      (default: those of NETWORKS)

Ranges are measured on photographs that ship with scikit-image; for tiny, which is trained, on rendered scenes. Each
file gets a row: the results of `export` and `verify`, PyTorch's own error in the same 16 bits, whether ONNX Runtime
loads and runs it, and whether TensorRT-RTX builds it without a GPU. A refusal is a result too and keeps its message.
Recorded rows are not measured again. Each step runs in a process of its own, which frees its memory.
"""

import datetime
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import skimage
import torch

from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.precision import PRECISIONS, find_precision
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import parity_images, reference_input
from dpt_deploy.jobs.common.reference import reference_of
from dpt_deploy.jobs.verify.type_loss import type_losses

RANDOM = ("--weights", "random")
NETWORKS = {  # options of export, and the side of the images
    "tiny": (("--backbone", "tiny"), 192),
    "base": (("--backbone", "base", *RANDOM), 384),
    "hybrid": (("--backbone", "hybrid", *RANDOM), 384),
    "hybrid-segmentation": (("--backbone", "hybrid", "--task", "segmentation", *RANDOM), 384),
    "large": (("--backbone", "large", *RANDOM), 192),
    "levit-224": (("--backbone", "levit-224", *RANDOM), 224),
    "midas-v21-small": (("--backbone", "midas-v21-small", *RANDOM), 256),
    "swin2-tiny-256": (("--backbone", "swin2-tiny-256", *RANDOM), 256),
    "da2-small": (("--backbone", "da2-small", *RANDOM), 518),
    "beit-base-384": (("--backbone", "beit-base-384", *RANDOM), 384),
    "dpt-dinov2-small-nyu": (("--backbone", "dpt-dinov2-small-nyu", *RANDOM), 476),
    "next-vit-large-384": (("--backbone", "next-vit-large-384", *RANDOM), 384),
}
PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "motorcycle_left", "motorcycle_right", "rocket")
VARIANTS = {name for precision in PRECISIONS.values() for name in precision.variants if name != precision.name}
ASKED = tuple(name for name in PRECISIONS if name not in VARIANTS)  # int8-cpu comes with int8
ACCURACY = ("drift", "sqnr", "abs_rel", "delta1", "speedup")
QUICK_RUN = 192  # side of the image that ONNX Runtime runs, if it is legal: the question is whether it runs


def main(*names):
    target = Path(__file__).parent / "results/precisions.json"
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(skimage.__file__).parent / "data").iterdir():
            if path.stem in PHOTOGRAPHS:
                shutil.copy(path, folder)
        for name in names or NETWORKS:
            options, size = NETWORKS[name]
            survey(target, name, options, size, None if name == "tiny" else Path(folder))
    print(target)


def survey(target, network, options, size, photographs=None):
    """Add a network in every precision that ``target`` has no row of."""
    result = json.loads(target.read_text()) if target.is_file() else {"kind": "precisions", "rows": []}
    for precision in ASKED:
        if any((row["network"], row["asked"]) == (network, precision) for row in result["rows"]):
            continue
        rows = exported([*options, "--precision", precision], size, photographs)
        for row in rows:
            print(f"{network} {row.get('precision', precision)}: {row.get('message', 'exported')}")
        result["rows"] += [{"network": network, "asked": precision, "size": size, **row} for row in rows]
        result["recorded"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        result["environment"] = fingerprint()
        atomic_write_bytes(target, (json.dumps(result, indent=1) + "\n").encode())


def exported(options, size, photographs):
    """The rows of one export: one file, or two."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["export", *options, "-o", folder, "--force"]
        if "fp32" not in options:
            command += ["--res", str(size)]
            command += ["--calibration", str(photographs)] if photographs else []
        begin = time.perf_counter()
        code, output = _dpt(*command)
        seconds = round(time.perf_counter() - begin, 1)
        if code:
            return [{"exported": False, "message": output}]
        models = sorted(Path(folder).glob("*.onnx"))
        return [{"exported": True, "seconds": seconds, **_file(model, size)} for model in models]


def in_pytorch(model, side):
    """The largest and mean error of PyTorch in the 16 bits of the file; None for other precisions."""
    sidecar = read_sidecar(Path(model))
    if not find_precision(sidecar.precision).is_half:
        return None
    images, network = parity_images(sidecar.precision, 1, Size(side, side)), reference_of(sidecar)
    (pixels,) = reference_input(sidecar, images).values()
    with torch.inference_mode():
        full = network(torch.from_numpy(pixels)).numpy()
    name = sidecar.outputs[0].name
    found = type_losses(network, sidecar, images, {name: full}).get(name)
    return {"max": found.max, "mean": found.mean} if found else None


def run_once(model, side):
    """Run a file on noise; raises what ONNX Runtime raises, and ``ValueError`` for an output that is not finite."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)
    (output,) = session.run(None, {session.get_inputs()[0].name: image})
    if not np.isfinite(output).all():
        raise ValueError("the output is not finite")


def _file(model, size):
    sidecar = json.loads(Path(f"{model}.json").read_text())
    accuracy = (sidecar["quantisation"] or {}).get("worth") or {}
    run = _itself("run_once", model, QUICK_RUN if size % QUICK_RUN == 0 else size)
    return {
        "model": model.stem,
        "precision": sidecar["precision"],
        "bytes": sum(path.stat().st_size for path in (model, Path(f"{model}.data")) if path.is_file()),
        "islands": len(sidecar["islands"]),
        "golden": _errors(sidecar["parity"]["cases"]),
        "worth": {key: accuracy[key] for key in ("drift", "sqnr", "abs_rel", "delta1", "speedup")}
        if accuracy
        else None,
        **_verified(model, size),
        "onnxruntime": "runs" if run.returncode == 0 else run.stderr.strip().splitlines()[-1],
        "engine": _engine(model, size),
    }


def _errors(cases):
    return {key: cases[0][key] for key in ("batch", "size", "max", "mean", "agreement")}


def _verified(model, size):
    """The errors that ``verify`` measures at the size, and those of PyTorch in 16 bits on the same image."""
    code, output = _dpt("verify", str(model), "--res", str(size), "--batch", "1", "--json")
    if code not in (0, 5):
        return {"verify": {"passed": False, "message": output}, "pytorch": None}
    done = _itself("in_pytorch", model, size)
    pytorch = json.loads(done.stdout) if done.returncode == 0 else None
    return {"verify": {"passed": code == 0, **_errors(json.loads(output)["cases"])}, "pytorch": pytorch}


def _engine(model, size):
    """The result of building an engine on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        code, output = _dpt("build", str(model), "--res", str(size), "-o", folder, "--json")
        if code:
            return {"built": False, "message": output}
        (plan,) = Path(folder).glob("*.plan")
        record = json.loads(Path(f"{plan}.json").read_text())["engine"]
        audit, plan_bytes = record["audit"], plan.stat().st_size
    total = max(1, sum(audit["operations"].values()))
    return {
        "built": True,
        "library": f"{record['library']} {record['version']}",
        "bytes": plan_bytes,
        "seconds": round(record["seconds"], 1),
        "operations": {kind: count / total for kind, count in audit["operations"].items()},
        "attention": audit["attention"],
        "dequantize": audit["dequantize"],
    }


def _itself(step, model, side):
    """Run one function of this script in a process of its own."""
    command = [sys.executable, __file__, f"--{step}", model, str(side)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _dpt(*arguments):
    """Exit code of a command, and its standard output or the line of its error."""
    command = [sys.executable, "-m", "dpt_deploy", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode in (0, 5) and done.stdout.strip():
        return done.returncode, done.stdout
    lines = done.stderr.splitlines() or ["no message"]
    begin = next((index for index, line in enumerate(lines) if line.startswith("error:")), len(lines) - 1)
    return done.returncode, lines[begin]


if __name__ == "__main__":
    steps = {"--in_pytorch": in_pytorch, "--run_once": run_once}
    if len(sys.argv) == 4 and sys.argv[1] in steps:
        print(json.dumps(steps[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
    else:
        main(*sys.argv[1:])
