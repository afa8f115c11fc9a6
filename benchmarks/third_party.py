"""Use exported models in engines and tools of others as their users would, and record what works and every message.

Each tool gets each file: its command line as its manual shows it, or its Python call. If it gives an output, that is
compared with PyTorch's golden tensors; if it writes another graph, ONNX Runtime computes that. `clients.py` holds the
comparison, and compares every precision; this compares tools. `nox -s clients` runs both.

Usage: python benchmarks/third_party.py RESULT.json FOLDER [TOOL…]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path

import clients

ANSI = re.compile(r"\x1b\[[0-9;]*m")
BIN = Path(sys.executable).parent
NOISE = re.compile(r"^(\[[IVW]\]|\[E\] FAILED \||Traceback|File |\^|Usage)")


def command(*words, path, cwd=None):
    """Run a command line in which FILE, and FOLDER for what it writes, stand for paths; raise its last line."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [word.replace("FILE", str(path)).replace("FOLDER", folder) for word in words],
            capture_output=True, text=True, check=False, cwd=cwd or folder, timeout=clients.PATIENCE,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(last_line(done.stdout + done.stderr, path, folder))
        return next((written.read_bytes() for written in Path(folder).glob("*.onnx")), None)


def last_line(text, path, folder):
    """The line of an output that names the error, without colours, times and places of files."""
    lines = [line.strip() for line in ANSI.sub("", text).splitlines() if line.strip() and not NOISE.match(line.strip())]
    named = [line for line in lines if re.match(r"^(\[[E!]\]|[\w.]*(Error|Exception)\b)", line)]
    found = (named or lines or ["no message"])[-1]
    return found.replace(str(path), path.name).replace(f"{path.parent}/", "").replace(f"{folder}/", "")


def shown(*words, path, name, pixels):
    """A command that computes or shows something of its own: it works if it ends with 0."""
    shape = ",".join(map(str, pixels.shape))
    command(*(word.replace("SHAPE", f"{name}:[{shape}]") for word in words), path=path)


def rewritten(*words, path, name, pixels):
    """A command that writes another graph, which ONNX Runtime then computes."""
    written = command(*words, path=path)
    return in_onnxruntime(written, name, pixels)


def in_onnxruntime(graph, name, pixels):
    ort = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]).run(None, {name: pixels})[0]


def graphsurgeon(path, name, pixels):
    onnx, surgeon = import_module("onnx"), import_module("onnx_graphsurgeon")
    graph = surgeon.export_onnx(surgeon.import_onnx(onnx.load(path)).cleanup().toposort())
    return in_onnxruntime(graph.SerializeToString(), name, pixels)


def reference(path, name, pixels):
    model = import_module("onnx").load(path)
    return import_module("onnx.reference").ReferenceEvaluator(model).run(None, {name: pixels})[0]


def onnx2torch(path, _name, pixels):
    torch = import_module("torch")
    with torch.inference_mode():
        return import_module("onnx2torch").convert(str(path))(torch.from_numpy(pixels)).numpy()


def tried(function, path):
    """The row of one file; a tool that gives no output to compare works, and is not called right."""
    row = clients.compared_apart(function, path)
    return row | {"verdict": "works"} if row["verdict"] == "right" and "mean" not in row else row


def calls(function, *words):
    return lambda path, name, pixels: function(*words, path=path, name=name, pixels=pixels)


POLYGRAPHY = (sys.executable, "-c", "import sys; from polygraphy.tools import main; sys.exit(main())")
SHAPES = ("--input-shapes", "SHAPE")
WEB = clients.NODE.replace("onnxruntime-node", "onnxruntime-web")
TOOLS = {  # name -> (what a user types, the function, the package)
    "polygraphy run": (
        "polygraphy run FILE --onnxrt", calls(shown, *POLYGRAPHY, "run", "FILE", "--onnxrt"), "polygraphy",
    ),
    "polygraphy run, size named": (
        "polygraphy run FILE --onnxrt --input-shapes SHAPE",
        calls(shown, *POLYGRAPHY, "run", "FILE", "--onnxrt", *SHAPES),
        "polygraphy",
    ),
    "polygraphy inspect": (
        "polygraphy inspect model FILE", calls(shown, *POLYGRAPHY, "inspect", "model", "FILE"), "polygraphy",
    ),
    "polygraphy sanitize": (
        "polygraphy surgeon sanitize FILE --fold-constants -o OUT",
        calls(rewritten, *POLYGRAPHY, "surgeon", "sanitize", "FILE", "--fold-constants", "-o", "FOLDER/out.onnx"),
        "polygraphy",
    ),
    "polygraphy lint": (
        "polygraphy check lint FILE", calls(shown, *POLYGRAPHY, "check", "lint", "FILE"), "polygraphy",
    ),
    "polygraphy lint, size named": (
        "polygraphy check lint FILE --input-shapes SHAPE",
        calls(shown, *POLYGRAPHY, "check", "lint", "FILE", *SHAPES),
        "polygraphy",
    ),
    "onnxslim": ("onnxslim FILE OUT", calls(rewritten, str(BIN / "onnxslim"), "FILE", "FOLDER/out.onnx"), "onnxslim"),
    "onnxsim": ("onnxsim FILE OUT", calls(rewritten, str(BIN / "onnxsim"), "FILE", "FOLDER/out.onnx"), "onnxsim"),
    "onnx-graphsurgeon": ("import_onnx, cleanup, export_onnx", graphsurgeon, "onnx-graphsurgeon"),
    "ONNX reference evaluator": ("ReferenceEvaluator(model).run", reference, "onnx"),
    "OpenCV DNN": ("cv2.dnn.readNetFromONNX", clients.opencv, "opencv-python-headless"),
    "onnxruntime-node": ("InferenceSession.create", clients.node, "onnxruntime-node"),
    "onnxruntime-web": ("InferenceSession.create, WebAssembly", partial(clients.node, script=WEB), "onnxruntime-web"),
    "onnx2torch": ("onnx2torch.convert", onnx2torch, "onnx2torch"),
    "tract": ("tract.onnx().load, size set", clients.tract, "tract"),
}  # fmt: skip


def version_of(package):
    if package.startswith("onnxruntime-"):
        text = Path(os.environ["CLIENTS_NODE"], "node_modules", package, "package.json").read_text()
        return json.loads(text)["version"]
    return import_module("importlib.metadata").version(package)


def main(target, folder, *names):
    """Run the named tools (default: all) on every file of a folder; other rows of the result stay."""
    target, names = Path(target), names or tuple(TOOLS)
    old = json.loads(target.read_text())["rows"] if target.exists() else []
    files = sorted(Path(folder).resolve().glob("*.onnx"))
    rows = [row for row in old if row["tool"] not in names or row["file"] not in {path.stem for path in files}]
    for name in names:
        typed, function, package = TOOLS[name]
        facts = {"tool": name, "typed": typed, "package": package, "version": version_of(package)}
        for path in files:
            row = facts | tried(function, path)
            print(*(row.get(key) for key in ("tool", "file", "verdict", "mean", "message")), flush=True)
            rows.append(row)
    order = list(TOOLS)
    rows.sort(key=lambda row: (order.index(row["tool"]), row["file"]))
    clients.write(target, rows, kind="third-party")


if __name__ == "__main__":
    main(*sys.argv[1:])
