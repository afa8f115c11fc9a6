"""Run exported models in software that is not ours, and compare each output with PyTorch's golden tensors.

It needs NumPy and the clients only: images are normalised and sidecars read as a user without this package would do.
Rows of the same client and version replace those in RESULT.json. `nox -s clients` makes the files and runs all clients.

Usage: python benchmarks/clients.py RESULT.json FOLDER CLIENT…
"""

import datetime
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Mean error over the range of the output, beyond which a result is wrong. For 8 bits, four times the recorded error if
# that is more, as in `dpt-deploy verify`.
LIMITS = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 2e-2, "fp8": 0.04, "int8": 0.04, "int8-cpu": 0.04, "int8-openvino": 0.04}
PATIENCE = 600  # seconds for one file in one client
NODE = """
const ort = require('onnxruntime-node'), fs = require('fs');
const [file, folder, name, type, ...dims] = process.argv.slice(1);
const bytes = fs.readFileSync(folder + '/in'), data = type === 'uint8' ? new Uint8Array(bytes)
  : new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
(async () => {
  const session = await ort.InferenceSession.create(file, {logSeverityLevel: 4});
  const found = await session.run({[name]: new ort.Tensor(type, data, dims.map(Number))});
  fs.writeFileSync(folder + '/out', Buffer.from(found[session.outputNames[0]].data.buffer));
})().catch(error => { console.error(error.message); process.exit(1); });
"""


def onnxruntime(path, name, pixels, rewrites_pairs=True):
    ort = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "0" if rewrites_pairs else "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: pixels})[0]


def openvino(path, name, pixels):
    core = import_module("openvino").Core()
    compiled = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return next(iter(compiled.create_infer_request().infer({name: pixels}).values()))


def opencv(path, _name, pixels):
    network = import_module("cv2").dnn.readNetFromONNX(str(path))
    network.setInput(pixels)
    return network.forward()


def onnx(path, name, pixels):
    """ONNX's own tools: strict inference, the full check, the reference evaluator."""
    module = import_module("onnx")
    model = module.load(path)
    import_module("onnx.shape_inference").infer_shapes(model, strict_mode=True)
    module.checker.check_model(model, full_check=True)
    return import_module("onnx.reference").ReferenceEvaluator(model).run(None, {name: pixels})[0]


def polygraphy(path, name, pixels):
    """Its constant folding, and then its runner over ONNX Runtime."""
    onnx_tools, ort = import_module("polygraphy.backend.onnx"), import_module("polygraphy.backend.onnxrt")
    folded = onnx_tools.fold_constants(onnx_tools.onnx_from_path(str(path)))
    with ort.OnnxrtRunner(ort.SessionFromOnnx(onnx_tools.BytesFromOnnx(folded))) as runner:
        return next(iter(runner.infer({name: pixels}).values()))


def tract(path, _name, pixels):
    model = import_module("tract").onnx().load(str(path))
    model.set_input_fact(0, f"{','.join(map(str, pixels.shape))},{'u8' if pixels.dtype == np.uint8 else 'f32'}")
    return model.into_model().into_runnable().run([pixels])[0].to_numpy()


def node(path, name, pixels, script=NODE):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in").write_bytes(np.ascontiguousarray(pixels).tobytes())
        call = ["node", "-e", script, str(path.resolve()), folder, name, str(pixels.dtype), *map(str, pixels.shape)]
        subprocess.run(call, check=True, capture_output=True, text=True, cwd=os.environ["CLIENTS_NODE"])
        return np.frombuffer(Path(folder, "out").read_bytes(), np.float32)


def transformers(folder, photo):
    """The library's pipeline on a photograph, compared with ours: the networks agree, the resizing does not."""
    pipeline = import_module("transformers").pipeline("depth-estimation", model=str(folder))
    found = pipeline(str(photo))["predicted_depth"].numpy().squeeze()
    name = folder.name.removesuffix("-hf")
    with import_module("dpt_deploy").load(folder.with_name(f"{name}-fp32.onnx")) as model:
        ours = model(photo).depth
    return {"model": name, "file": folder.name, "precision": "fp32", **differences(found, ours)}


CLIENTS = {
    "onnxruntime": (onnxruntime, "onnxruntime"),
    "onnxruntime-as-written": (partial(onnxruntime, rewrites_pairs=False), "onnxruntime"),
    "openvino": (openvino, "openvino"),
    "opencv": (opencv, "opencv-python-headless"),
    "onnx": (onnx, "onnx"),
    "polygraphy": (polygraphy, "polygraphy"),
    "tract": (tract, "tract"),
    "node": (node, ""),
}


def differences(found, expected):
    if found is None:  # of a tool that shows or checks
        return {}
    if found.size != expected.size:
        return {"message": f"output of shape {list(found.shape)}, expected {list(expected.shape)}"}
    error = np.abs(found.reshape(expected.shape).astype(np.float64) - expected) / np.ptp(expected)
    return {"max": float(error.max()), "mean": float(error.mean())}


def compared(client, path):
    """One row: the errors of a file in a client, or its message."""
    sidecar = json.loads(Path(f"{path}.json").read_text())
    with np.load(path.with_name(sidecar["golden"])) as golden:
        pixels, expected = golden["images"], golden["output"]
    if sidecar["input_kind"] == "float32":
        mean, std = (np.array(sidecar["image"][key]) for key in ("mean", "std"))
        pixels = ((pixels / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    row = {"model": sidecar["model"]["name"], "file": path.stem, "precision": sidecar["precision"]}
    try:
        row |= differences(client(path, sidecar["inputs"][0]["name"], np.ascontiguousarray(pixels)), expected)
    except Exception as exc:  # noqa: BLE001  whatever a client raises is its result
        row["message"] = " ".join((getattr(exc, "stderr", None) or str(exc)).split())[:200]
    wrong = row.get("mean", 0) > limit_of(sidecar)
    return row | {"verdict": "fails" if "message" in row else "wrong" if wrong else "right"}


def compared_apart(client, path):
    """The row of one file, made in a process of its own: an engine may crash instead of failing."""
    context = multiprocessing.get_context("fork")  # the parent imports no engine
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(compared(client, path)))
    process.start()
    sender.close()
    with suppress(EOFError):  # it may die before it answers
        if receiver.poll(PATIENCE):
            return receiver.recv()
    process.join(1)
    message = f"no answer in {PATIENCE} s" if process.is_alive() else f"the process ended with {process.exitcode}"
    process.kill()
    sidecar = json.loads(Path(f"{path}.json").read_text())
    row = {"model": sidecar["model"]["name"], "file": path.stem, "precision": sidecar["precision"]}
    return row | {"message": message, "verdict": "fails"}


def limit_of(sidecar):
    """The largest mean error of a file that is computed right."""
    limit = LIMITS[sidecar["precision"]]
    if "8" not in sidecar["precision"] or not sidecar["parity"]:
        return limit
    recorded = max(case["mean"] for case in sidecar["parity"]["cases"])
    return min(max(limit, 4 * recorded), sidecar["outputs"][0]["tolerance"]["mean"])


def version_of(name):
    if name == "node":
        folder = Path(os.environ["CLIENTS_NODE"], "node_modules/onnxruntime-node")
        return json.loads((folder / "package.json").read_text())["version"]
    return version(CLIENTS[name][1] if name in CLIENTS else name)


def main(target, folder, *names):
    folder, target = Path(folder), Path(target)
    rows = json.loads(target.read_text())["rows"] if target.exists() else []
    for name in names:
        found = version_of(name)
        rows = [row for row in rows if (row["client"], row["version"]) != (name, found)]
        if name == "transformers":
            photo = Path(__file__).parents[1] / "dpt_deploy/data/photographs/coffee.jpg"
            new = [transformers(each, photo) | {"verdict": "right"} for each in sorted(folder.glob("*-hf"))]
        else:
            new = [compared_apart(CLIENTS[name][0], path) for path in sorted(folder.glob("*.onnx"))]
        for row in new:
            print(name, found, row["file"], row["verdict"], row.get("mean", row.get("message")), flush=True)
        rows += [{"client": name, "version": found, **row} for row in new]
        write(target, rows)


def write(target, rows, kind="clients"):
    processor = Path("/proc/cpuinfo").read_text().partition("model name")[2].splitlines()[0].strip(" \t:")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    done = {"kind": kind, "recorded": now, "processor": processor, "limits": LIMITS, "rows": rows}
    target.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
