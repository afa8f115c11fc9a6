"""Names and requirements of the hub's layout: which artefact becomes which file of ``onnx/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpt_deploy.artifact.sidecar import Payload, Sidecar
from dpt_deploy.artifact.store import Artifact, open_model
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.task import LABELS, SCORES

FOLDER = "onnx"
# Precision to the file that transformers.js opens for one of its names of number formats ("dtype").
FILES = {
    "fp32": ("model", "fp32"),
    "fp16": ("model_fp16", "fp16"),
    "int8-cpu": ("model_quantized", "q8"),
    "int8": ("model_int8", "int8"),
}
_INPUT = "pixel_values"


@dataclass(frozen=True)
class HubFile:
    """One artefact under its name in the layout; ``dtype`` is transformers.js's name of its number format."""

    artifact: Artifact
    name: str
    dtype: str

    @property
    def sidecar(self) -> Sidecar:
        """The sidecar, with its payloads under their names in the layout."""
        old, found = self.artifact.path.name, self.artifact.sidecar
        payloads = tuple(
            Payload(self.name + each.name.removeprefix(old), each.sha256, each.size_bytes) for each in found.payloads
        )
        golden = self.name + found.golden.removeprefix(old) if found.golden else ""
        quantisation = replace(found.quantisation, twin="") if found.quantisation else None
        return replace(found, payloads=payloads, golden=golden, quantisation=quantisation)

    def sources(self) -> list[tuple[Path, str]]:
        """The files of the artefact, and their names in the layout."""
        pairs = zip(self.artifact.sidecar.payloads, self.sidecar.payloads, strict=True)
        return [(self.artifact.path.with_name(old.name), new.name) for old, new in pairs]


def hub_files(paths: Sequence[Path | str]) -> tuple[HubFile, ...]:
    """The artefacts at ``paths`` under their names in the layout, FP32 first.

    Raises:
        UsageError: there is none, the layout has no place for one, or they are not one network.
        BadFileError: an artefact is missing, unfinished, damaged or an engine.
    """
    if not paths:
        raise UsageError("no artefact was given", hint="for example: convert --to hub out/tiny-fp32.onnx -o folder/")
    found: dict[str, HubFile] = {}
    for path in paths:
        artifact = open_model(path)
        _check_fits(artifact)
        precision = artifact.sidecar.precision
        if precision in found:
            raise UsageError(
                f"{path} and {found[precision].artifact.path} are both {precision}; the layout has one file for it",
                hint="give one of them",
            )
        stem, dtype = FILES[precision]
        found[precision] = HubFile(artifact, f"{stem}.onnx", dtype)
    files = tuple(found[precision] for precision in FILES if precision in found)
    for other in files[1:]:
        _check_same(files[0].artifact, other.artifact)
    return files


def _check_fits(artifact: Artifact) -> None:
    """Refuse what readers of the layout would not find, or not understand."""
    path, sidecar = artifact.path, artifact.sidecar
    if sidecar.precision not in FILES:
        raise UsageError(
            f"{path} is {sidecar.precision}, for which the hub's layout has no file",
            hint=f"export one of {', '.join(FILES)}",
        )
    if sidecar.input_kind != "float32" or sidecar.inputs[0].name != _INPUT:
        raise UsageError(
            f"{path} takes {sidecar.inputs[0].name!r} of type {sidecar.input_kind}; the libraries give "
            f"{_INPUT!r} of float32",
            hint="export it without --input uint8",
        )
    if len(sidecar.outputs) > 1:
        raise UsageError(
            f"{path} has {len(sidecar.outputs)} outputs; a pipeline of the libraries reads one",
            hint="export one output a file: --task depth, or --task segmentation",
        )
    if any(output.task == LABELS.name for output in sidecar.outputs):
        raise UsageError(
            f"{path} returns labels; the libraries expect {SCORES.output!r}", hint="export it without --output labels"
        )
    extra = [payload.name for payload in sidecar.payloads if payload.name not in (path.name, sidecar.golden)]
    if extra:
        raise UsageError(
            f"{path} keeps its weights in {extra[0]}, whose name is written in the graph; the layout has another",
            hint="export it in fp16 or int8-cpu, which is smaller, or give the artefact as it is",
        )


def _check_same(first: Artifact, other: Artifact) -> None:
    one, two = first.sidecar, other.sidecar
    for what, same in (
        ("networks", one.model == two.model),
        ("image rules", one.image == two.image),
        ("weights", one.weights.sha256 == two.weights.sha256 and one.weights.seed == two.weights.seed),
        ("sizes", one.shapes == two.shapes),
    ):
        if not same:
            raise UsageError(
                f"{first.path} and {other.path} have different {what}; one folder holds one network",
                hint="export both from the same checkpoint, with the same options",
            )
