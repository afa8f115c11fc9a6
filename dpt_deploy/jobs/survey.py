"""Every network in every precision: exported, compared, loaded, built. A refusal is a result, with its message.

Each step is a process of its own, so that its memory goes with it, and what is recorded is what a user would see.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.precision import PRECISIONS, find_precision
from dpt_deploy.core.size import Size

Row = dict[str, Any]
_VARIANTS = {name for precision in PRECISIONS.values() for name in precision.variants if name != precision.name}
ASKED = tuple(name for name in PRECISIONS if name not in _VARIANTS)  # int8-cpu comes with int8
LARGEST_RUN = 192  # side of the image that ONNX Runtime is given: whether it runs, not how fast


def survey_precisions(
    target: Path,
    networks: dict[str, Sequence[str]],
    *,
    size: int,
    photographs: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Add to the result at ``target`` every network (name to options of ``export``) in every precision at ``size``.

    Ranges are measured on ``photographs``, else on rendered scenes. What stands there already is not measured again, so
    that a run that was broken off goes on where it was.
    """
    result: Row = json.loads(target.read_text()) if target.is_file() else {"kind": "precisions", "rows": []}
    for network, options in networks.items():
        for precision in ASKED:
            if any((row["network"], row["asked"]) == (network, precision) for row in result["rows"]):
                continue
            rows = _measured([*options, "--precision", precision], size, photographs)
            for row in rows:
                say(f"{network} {row.get('precision', precision)}: {row.get('message', 'exported')}")
            result["rows"] += [{"network": network, "asked": precision, "size": size, **row} for row in rows]
            result["recorded"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            result["environment"] = fingerprint()
            atomic_write_bytes(target, (json.dumps(result, indent=1) + "\n").encode())


def _measured(options: Sequence[str], size: int, photographs: Path | None) -> list[Row]:
    """The rows of one export: one file, or two."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["export", *options, "-o", folder, "--force"]
        if "fp32" not in options:
            command += ["--res", str(size)]
            command += ["--calibration", str(photographs)] if photographs else []
        begin = time.perf_counter()
        code, said = _dpt(*command)
        seconds = round(time.perf_counter() - begin, 1)
        if code:
            return [{"exported": False, "message": said}]
        models = sorted(Path(folder).glob("*.onnx"))
        return [{"exported": True, "seconds": seconds, **_file(model, size)} for model in models]


def _file(model: Path, size: int) -> Row:
    return {**_described(model), **_compared(model, size), **_loaded(model, size), **_engine(model, size)}


def _described(model: Path) -> Row:
    sidecar = json.loads(Path(f"{model}.json").read_text())
    worth = (sidecar["quantisation"] or {}).get("worth") or {}
    return {
        "model": model.stem,
        "precision": sidecar["precision"],
        "bytes": sum(path.stat().st_size for path in (model, Path(f"{model}.data")) if path.is_file()),
        "islands": len(sidecar["islands"]),
        "golden": _errors(sidecar["parity"]["cases"]),
        "worth": {key: worth[key] for key in ("drift", "sqnr", "abs_rel", "delta1", "speedup")} if worth else None,
    }


def _errors(cases: Sequence[Row]) -> Row:
    return {key: cases[0][key] for key in ("batch", "size", "max", "mean", "agreement")}


def _compared(model: Path, size: int) -> Row:
    """What ``verify`` measures at the size, and what PyTorch itself loses in 16 bits on the same image."""
    code, said = _dpt("verify", str(model), "--res", str(size), "--batch", "1", "--json")
    if code not in (0, 5):
        return {"verify": {"passed": False, "message": said}, "pytorch": None}
    done = _python(f"from dpt_deploy.jobs.survey import in_pytorch; print(in_pytorch({str(model)!r}, {size}))")
    pytorch = json.loads(done.stdout) if done.returncode == 0 else None
    return {"verify": {"passed": code == 0, **_errors(json.loads(said)["cases"])}, "pytorch": pytorch}


def in_pytorch(model: str, side: int) -> str:
    """The largest and mean error of PyTorch in the 16 bits of the file, as JSON; null for other files."""
    import torch

    from dpt_deploy.jobs.common.inputs import parity_images, reference_input
    from dpt_deploy.jobs.common.reference import reference_of
    from dpt_deploy.jobs.verify.type_loss import type_loss

    sidecar = read_sidecar(Path(model))
    if not find_precision(sidecar.precision).is_half:
        return "null"
    images, network = parity_images(sidecar.precision, 1, Size(side, side)), reference_of(sidecar)
    (pixels,) = reference_input(sidecar, images).values()
    with torch.inference_mode():
        full = network(torch.from_numpy(pixels)).numpy()
    found = type_loss(network, sidecar, images, full)
    return json.dumps({"max": found.max, "mean": found.mean} if found else None)


def _loaded(model: Path, size: int) -> Row:
    """Whether ONNX Runtime takes the file at full optimisation, and returns finite numbers."""
    side = min(size, LARGEST_RUN)
    done = _python(f"from dpt_deploy.jobs.survey import run_once; run_once({str(model)!r}, {side})")
    return {"onnxruntime": "runs" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]}


def run_once(model: str, side: int) -> None:
    """Run a file on noise; raises whatever ONNX Runtime raises, and ``ValueError`` for numbers that are not finite."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)
    (output,) = session.run(None, {session.get_inputs()[0].name: image})
    if not np.isfinite(output).all():
        raise ValueError("the output is not finite")


def _engine(model: Path, size: int) -> Row:
    """What the builder of engines makes of it on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        code, said = _dpt("build", str(model), "--res", str(size), "-o", folder, "--json")
        if code:
            return {"engine": {"built": False, "message": said}}
        (plan,) = Path(folder).glob("*.plan")
        record = json.loads(Path(f"{plan}.json").read_text())["engine"]
        audit, plan_bytes = record["audit"], plan.stat().st_size
    total = max(1, sum(audit["operations"].values()))
    return {
        "engine": {
            "built": True,
            "library": f"{record['library']} {record['version']}",
            "bytes": plan_bytes,
            "seconds": round(record["seconds"], 1),
            "operations": {kind: count / total for kind, count in audit["operations"].items()},
            "attention": audit["attention"],
            "dequantize": audit["dequantize"],
        }
    }


def _python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own words


def _dpt(*arguments: str) -> tuple[int, str]:
    """Exit code, and standard output or the line that says what is wrong."""
    command = [sys.executable, "-m", "dpt_deploy", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own command
    if done.returncode in (0, 5) and done.stdout.strip():
        return done.returncode, done.stdout
    lines = done.stderr.splitlines() or ["it said nothing"]
    begin = next((index for index, line in enumerate(lines) if line.startswith("error:")), len(lines) - 1)
    return done.returncode, lines[begin]
