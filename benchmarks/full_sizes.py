"""Export published networks at their full size from synthetic checkpoints; adds to results/full-sizes.json.

Usage: python benchmarks/full_sizes.py [NETWORK…]      (default: those of NETWORKS)

No published weights are read. A checkpoint of random numbers has the keys and shapes of the authors' file, dead tensors
and buffers included, as tests/support has them written down without the key maps; transformers writes a folder of
Hugging Face. `export` loads it as it would load theirs, and compares the graph with PyTorch. Networks whose keys nobody
has written down get random weights without a checkpoint. Then `verify` tries
another size (a batch where there is one size only), and TensorRT-RTX builds an engine at the size of the training. A
refusal is a result, too, and keeps its message. Each step runs in a process of its own, whose peak memory is recorded.
Networks that are recorded with such keys are not measured again.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.recipe import load_recipe

TARGET = Path(__file__).parent / "results/full-sizes.json"
LIBRARY = "tensorrt_rtx"
NETWORKS = (
    "levit-224",
    "midas-v21-small",
    "da2-small",
    "dpt-dinov2-small-nyu",
    "swin2-tiny-256",
    "next-vit-large-384",
    "da2-base",
    "beit-base-384",
    "swin-large-384",
    "da2-large",
    "da3-metric",
    "beit-large-512",
    "beit-large-384",
    "swin2-base-384",
    "swin2-large-384",
    "midas-v21",
    "focus-base",
    "dpt-dinov2-base-nyu",
    "dpt-dinov2-large-nyu",
    "dpt-dinov2-giant-nyu",
    "deit-distilled",
    "resnet50",
    "resnext101",
)
TESTS = Path(__file__).parents[1] / "tests"
_TAIL = 300  # characters of a message


def main(*names):
    os.environ["PYTHONPATH"] = os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))  # of the steps
    rows = json.loads(TARGET.read_text())["rows"] if TARGET.is_file() else []
    for name in names or NETWORKS:
        if any(row["network"] == name and "account" in row for row in rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            others = [row for row in rows if row["network"] != name]
            rows = sorted([*others, survey(name, Path(folder))], key=lambda row: row["network"])
        document = {
            "kind": "full-sizes",
            "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "environment": fingerprint(),
            "rows": rows,
        }
        atomic_write_bytes(TARGET, (json.dumps(document, indent=2) + "\n").encode())
        print(json.dumps(rows[[row["network"] for row in rows].index(name)]), flush=True)
    print(TARGET)
    subprocess.run([sys.executable, Path(__file__).with_name("engines.py")], check=True)


def survey(name, folder):
    """What became of one network: a row."""
    recipe = load_recipe(name)
    file = folder / (f"{name}-folder" if recipe.model.decoder == "dinov2" else f"{name}.safetensors")
    made, text = step(sys.executable, "-m", "support.full_size_checkpoints", name, file)
    if not made["done"]:
        raise SystemExit(f"no checkpoint of {name}: {text}")
    account, keys = text.strip().rsplit("\n", 2)[-2:]
    weights = file if file.exists() else "random"
    row = {"network": name, "account": account, "keys": int(keys), "checkpoint_bytes": size_of(file)}
    row["export"], _ = cli("export", "--backbone", name, "--weights", weights, "-o", folder)
    if not row["export"]["done"]:
        return row
    (model,) = folder.glob("*.onnx")
    row["outputs"] = [output["name"] for output in sidecar(model)["outputs"]]
    row["exported"] = worst(sidecar(model)["parity"]["cases"])
    row["family"] = sidecar(model)["weights"]["family"]
    row["size"], row["only_size"] = recipe.verify.res[0], recipe.model.only_size is not None
    row["verify"], _ = cli("verify", model, "--res", row["size"], "--batch", "2")
    return row | {"engine": engine(model, recipe, folder)}


def engine(model, recipe, folder):
    """What TensorRT-RTX makes of the file at the size of the training."""
    side = f"{recipe.image.height // recipe.model.stride * recipe.model.stride}"
    found, _ = cli("build", model, "--res", side, "--library", LIBRARY, "-o", folder)
    plans = list(folder.glob("*.plan"))
    return found | {"library": LIBRARY, "size": side} | ({"bytes": plans[0].stat().st_size} if plans else {})


def size_of(path):
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*"))
    return path.stat().st_size if path.exists() else 0


def worst(cases):
    return {key: max(case[key] for case in cases) for key in ("max", "mean")}


def sidecar(model):
    return json.loads(model.with_name(model.name + ".json").read_text())


def cli(*words):
    return step(sys.executable, "-m", "dpt_deploy", *words)


def step(*words):
    """Run a command: whether it was done, its seconds and its peak memory, and what it wrote."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen([str(word) for word in words], stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
    found = {"done": child.returncode == 0, "seconds": round(time.perf_counter() - begin, 1)}
    found["processor_seconds"] = round(usage.ru_utime + usage.ru_stime, 1)
    found["peak_bytes"] = usage.ru_maxrss * 1024
    if child.returncode:
        lines = [line for line in texts[1].splitlines() if line.startswith("error:")] or texts[1].splitlines()[-3:]
        found |= {"exit_code": child.returncode, "message": " ".join(lines)[:_TAIL]}
    return found, texts[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
