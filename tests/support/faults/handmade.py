"""An artefact of a few bytes, made without torch, onnx or onnxruntime; its graph is no ONNX, its sidecar is valid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.specs import SMALL_VIT

from dpt_deploy.artifact.records import OutputRecord, Shapes
from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.store import Artifact, open_artifact, payload_of, write_sidecar
from dpt_deploy.core.recipe import Tolerance, VerifyMatrix
from dpt_deploy.core.spec import ImageSpec, TensorSpec

NAME = "small-fp32.onnx"
MODEL = replace(SMALL_VIT, name="small")
SIDECAR = Sidecar(
    kind="onnx",
    payloads=(),
    parents=(),
    tools={"dpt-deploy": "0"},
    model=MODEL,
    image=ImageSpec(64, 64, "minimal", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    weights=WeightsSource("random"),
    precision="fp32",
    opset=23,
    input_kind="float32",
    inputs=(TensorSpec("pixel_values", "float32", ("batch", 3, "height", "width")),),
    outputs=(
        OutputRecord(
            "predicted_depth",
            "float32",
            ("batch", "height", "width"),
            "depth",
            Tolerance(max=1e-4, mean=1e-5, disagreement=1e-3),
        ),
    ),
    shapes=Shapes(32),
    verify=VerifyMatrix(res=("32",), batch=(1,)),
    golden=f"{NAME}.golden.npz",
)


def payloads(folder: Path, content: str) -> Sidecar:
    """Write graph, external data and golden tensors that hold ``content``; return the sidecar that describes them."""
    names = (NAME, f"{NAME}.data", f"{NAME}.golden.npz")
    for name in names:
        (folder / name).write_text(f"{content} {name}")
    return replace(SIDECAR, payloads=tuple(payload_of(folder / name) for name in names))


def handmade(folder: Path, content: str = "old") -> Artifact:
    """A finished artefact in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_sidecar(folder / NAME, payloads(folder, content))
    return open_artifact(folder / NAME)


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its content: what must not change when nothing may be written."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
