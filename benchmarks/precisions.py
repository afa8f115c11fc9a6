"""Every network in every precision: exported, loaded, compared, built; writes results/precisions-….json.

Usage: python benchmarks/precisions.py [NETWORK…] [--size 384] [--keep FOLDER]
       NETWORK: tiny, base, large, hybrid, hybrid-segmentation (default: all)

Ranges come from eight photographs that ship with scikit-image; for tiny, which has learned, from rendered scenes. For
each file: what `export` measured (agreement with PyTorch at the golden size, distance to FP32 on those images), what
`verify` says at the size, whether ONNX Runtime loads and runs it, whether TensorRT-RTX builds it without a GPU. Beside
a file of 16 bits stands what PyTorch itself loses in that type on the same image: nobody here wrote that.
A refusal is recorded with its message. What was recorded before stays: a run that was broken off goes on where it was.
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import skimage

from dpt_deploy.core.environment import fingerprint

NETWORKS = {
    "tiny": ["--backbone", "tiny"],
    "base": ["--backbone", "base", "--weights", "random"],
    "large": ["--backbone", "large", "--weights", "random"],
    "hybrid": ["--backbone", "hybrid", "--weights", "random"],
    "hybrid-segmentation": ["--backbone", "hybrid", "--task", "segmentation", "--weights", "random"],
}
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")  # int8 comes as two files
PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "motorcycle_left", "motorcycle_right", "rocket")
RESULTS = Path(__file__).parent / "results"

IN_PYTORCH = """
import json, sys, torch
from pathlib import Path
from dpt_deploy.core.artifact import read_sidecar
from dpt_deploy.core.metrics import range_error
from dpt_deploy.core.spec import Size
from dpt_deploy.workflow.feeds import parity_images, reference_input
from dpt_deploy.workflow.reference import reference_of
sidecar, side = read_sidecar(Path(sys.argv[1])), int(sys.argv[2])
images = parity_images(sidecar.precision, 1, Size(side, side))
pixels = torch.from_numpy(next(iter(reference_input(sidecar, images).values())))
narrow = {"fp16": torch.float16, "bf16": torch.bfloat16}[sidecar.precision]
network = reference_of(sidecar)
with torch.inference_mode():
    full = network(pixels).numpy()
    found = network.to(narrow)(pixels.to(narrow)).float().numpy()
print(json.dumps(range_error(found, full)))
"""
RUN_ONCE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
side = int(sys.argv[2])
feed = numpy.random.default_rng(0).standard_normal((1, 3, side, side), numpy.float32)
(output,) = session.run(None, {session.get_inputs()[0].name: feed})
assert numpy.isfinite(output).all(), "the output is not finite"
"""


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=384, help="side of the images, for networks but tiny (192)")
    parser.add_argument("--keep", type=Path, help="folder to keep the files in")
    chosen = parser.parse_args()
    result = opened()
    for network in chosen.networks:
        for precision in PRECISIONS:
            if any(row["network"] == network and row["asked"] == precision for row in result["rows"]):
                continue
            size = 192 if network == "tiny" else chosen.size
            result["rows"] += measured(network, precision, size, chosen.keep)
            save(result)
    print(target(result))


def opened():
    """The result of today's machine and versions that is there, or a new one."""
    result = {
        "kind": "precisions",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": fingerprint(),
        "rows": [],
    }
    return json.loads(target(result).read_text()) if target(result).is_file() else result


def target(result):
    tools = result["environment"]["tools"]
    return RESULTS / f"precisions-torch{tools['torch']}-ort{tools['onnxruntime']}.json"


def save(result):
    result["recorded"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    partial = target(result).with_suffix(".part")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(target(result))


def measured(network, precision, size, keep):
    """The rows of one export: one file, or two."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        command = ["export", *NETWORKS[network], "--precision", precision, "-o", f"{folder}/out", "--force"]
        if precision != "fp32":
            command += ["--res", size]
            command += [] if network == "tiny" else ["--calibration", photographs(Path(folder) / "photographs")]
        code, said = dpt(*command)
        seconds = time.perf_counter() - begin
        if code:
            return [{"network": network, "asked": precision, "size": size, "exported": False, "message": said}]
        rows = []
        for model in sorted(Path(folder, "out").glob("*.onnx")):
            row = {"network": network, "asked": precision, "size": size, "exported": True, "seconds": round(seconds, 1)}
            rows.append(row | described(model) | compared(model, size) | loaded(model, size) | engine(model, size))
            print(json.dumps(rows[-1]), flush=True)
        if keep:
            shutil.copytree(f"{folder}/out", keep, dirs_exist_ok=True)
        return rows


def photographs(folder):
    """The photographs, in a folder of their own."""
    folder.mkdir()
    for path in sorted((Path(skimage.__file__).parent / "data").iterdir()):
        if path.stem in PHOTOGRAPHS:
            shutil.copy(path, folder)
    return folder


def described(model):
    sidecar = json.loads(Path(f"{model}.json").read_text())
    worth = (sidecar.get("quantisation") or {}).get("worth") or {}
    return {
        "model": model.stem,
        "precision": sidecar["precision"],
        "bytes": sum(path.stat().st_size for path in (model, Path(f"{model}.data")) if path.is_file()),
        "islands": len(sidecar.get("islands") or {}),
        "golden": first(sidecar["parity"]["cases"]),
        "worth": {key: worth.get(key) for key in ("drift", "sqnr", "abs_rel", "delta1", "speedup")} if worth else None,
    }


def first(cases):
    return {key: cases[0][key] for key in ("batch", "size", "max", "mean", "agreement")}


def compared(model, size):
    """What `verify` measures at the size, against PyTorch, with the runner that computes in the file's precision."""
    code, said = dpt("verify", model, "--res", size, "--batch", 1, "--json")
    if code not in (0, 5):
        return {"verify": {"passed": False, "message": said}}
    found = json.loads(said)
    row = {"verify": {"passed": code == 0, **first(found["cases"])}}
    if model.stem.endswith("fp16") or model.stem.endswith("bf16"):
        done = python(IN_PYTORCH, model, size)
        row["pytorch"] = (
            dict(zip(("max", "mean"), json.loads(done.stdout), strict=True)) if not done.returncode else None
        )
    return row


def loaded(model, size):
    """Whether ONNX Runtime takes the file at full optimisation, and returns finite numbers."""
    done = python(RUN_ONCE, model, min(size, 192))
    return {"onnxruntime": "runs" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]}


def engine(model, size):
    """What TensorRT-RTX makes of it on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        code, said = dpt("build", model, "--res", size, "-o", folder, "--json")
        if code:
            return {"engine": {"built": False, "message": said}}
        (plan,) = Path(folder).glob("*.plan")
        record = json.loads(Path(f"{plan}.json").read_text())["engine"]
        audit = record["audit"]
        total = sum(audit["operations"].values())
        return {
            "engine": {
                "built": True,
                "library": f"{record['library']} {record['version']}",
                "bytes": plan.stat().st_size,
                "seconds": round(record["seconds"], 1),
                "operations": {kind: count / total for kind, count in audit["operations"].items()},
                "attention": audit["attention"],
                "dequantize": audit["dequantize"],
            }
        }


def python(code, *arguments):
    """A process of its own, so that its memory goes with it."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def dpt(*arguments):
    """Exit code, and standard output or the line that says what is wrong."""
    command = [sys.executable, "-m", "dpt_deploy", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode in (0, 5) and done.stdout.strip():
        return done.returncode, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")] or done.stderr.splitlines()[-1:]
    return done.returncode, " ".join(lines)


if __name__ == "__main__":
    main()
