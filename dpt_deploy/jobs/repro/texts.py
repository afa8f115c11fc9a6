"""Texts of a folder for a report: what was found, the commands that show it, and how to check the files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.repro.search import Piece
from dpt_deploy.measure import metrics

KIND = "repro"
MODEL = "model.onnx"
INPUTS, OUTPUTS = "inputs.json", "outputs.json"  # of polygraphy
CHECK, SUMS = "check.py", "SHA256SUMS"
_NAMED = 3  # tensors in a sentence
_SAFE = re.compile(r"[^\w.-]")


@dataclass(frozen=True)
class Finding:
    """Facts that a folder shows.

    ``runtime`` computed the file of ``sidecar``; the right values are those of ``source``. ``measured`` are the errors
    of the whole file in words, if it did not pass. ``allowed`` has the tolerance of each output of ``piece``.
    """

    sidecar: Sidecar
    runtime: str
    source: str
    size: Size
    passed: bool
    measured: str
    piece: Piece
    allowed: Mapping[str, Tolerance]

    @property
    def title(self) -> str:
        return f"{self.sidecar.model.name}, {self.sidecar.precision}, one image of {self.size}"

    @property
    def verdict(self) -> str:
        """The result, in words."""
        if self.passed:
            return f"The file passes parity: {self.runtime} computes it as {self.source} does. This is the whole graph."
        if self.piece.is_whole:
            return f"The whole graph is computed wrong in {self.runtime}, compared with {self.source}: {self.measured}."
        (end,) = self.piece.expected
        largest, mean = self.piece.error
        return (
            f"The piece from {_listed(self.piece.given)} to {end} is computed wrong by itself in {self.runtime}: "
            f"max {largest:.2e}, mean {mean:.2e} of the range of {self.source}'s values."
        )

    def range_of(self, name: str) -> float:
        """The range that errors of an output of the piece are divided by; 0 if its values are no numbers."""
        values = self.piece.expected[name]
        least = {output.name: output.kind.full_scale for output in self.sidecar.outputs}.get(name, 0.0)
        return max(metrics.span(values), least) if values.dtype.kind == "f" else 0.0

    def files(self, values: Mapping[str, np.ndarray], folder: str) -> dict[str, str]:
        """The place of each tensor's file, without its extension: names of tensors are no names of files."""
        return {name: f"{folder}/{index}-{_SAFE.sub('_', name)}" for index, name in enumerate(values)}


def facts(finding: Finding) -> dict[str, Any]:
    """The document ``repro.json``: what was found, the tensors, and the versions that computed them."""
    piece, sidecar = finding.piece, finding.sidecar
    return {
        "kind": KIND,
        "network": sidecar.model.name,
        "precision": sidecar.precision,
        "opset": sidecar.opset,
        "weights": "random" if sidecar.weights.is_random else "trained",
        "runtime": finding.runtime,
        "reference": finding.source,
        "size": str(finding.size),
        "passed": finding.passed,
        "whole": piece.is_whole,
        "operations": dict(Counter(node.op_type for node in piece.model.graph.node)),
        "error": None if finding.passed else {"max": _number(piece.error[0]), "mean": _number(piece.error[1])},
        "inputs": _tensors(piece.inputs, finding.files(piece.inputs, "inputs")),
        "outputs": [
            {**entry, "allowed": asdict(finding.allowed[entry["name"]]), "range": finding.range_of(entry["name"])}
            for entry in _tensors(piece.expected, finding.files(piece.expected, "outputs"))
        ],
        "environment": fingerprint(),
    }


def readme(finding: Finding) -> str:
    """The folder's README."""
    operations = Counter(node.op_type for node in finding.piece.model.graph.node)
    listed = ", ".join(f"{name} ({count})" for name, count in operations.most_common())
    emulated = find_precision(finding.sidecar.precision).is_narrow and finding.runtime == "emu"
    lines = [
        f"# {finding.title}\n",
        f"{finding.verdict}\n",
        f"Operations: {listed}.\n",
        "The weights of these operations are in the file"
        + ("; they are random.\n" if finding.sidecar.weights.is_random else ".\n"),
        "The inputs come from a generated image. Versions, processor and GPU are in `repro.json`.\n",
        *(["The types were emulated: a CPU may compute 16-bit numbers in 32 bits and show no error.\n"] * emulated),
        "## See it\n",
        "In ONNX Runtime, without other tools:\n",
        f"```\npython {CHECK}\n```\n",
        "With polygraphy; it ends with code 1 if an output differs:\n",
        "```\n" + "\n".join(polygraphy_lines(finding)) + "\n```\n",
        "With TensorRT. `trtexec` reads raw bytes (`.bin`); compare what it exports with `outputs/`:\n",
        f"```\n{trtexec_line(finding)}\n```\n",
        *(_reducer(finding) if finding.piece.is_whole else ()),
        "## Files\n",
        f"`{MODEL}`, inputs and expected outputs as NumPy arrays (`inputs/`, `outputs/`), as raw bytes (`.bin`) and in "
        f"polygraphy's format (`{INPUTS}`, `{OUTPUTS}`). `sha256sum -c {SUMS}` checks them.",
    ]
    return "\n".join(lines) + "\n"


def polygraphy_lines(finding: Finding) -> list[str]:
    """The comparisons with polygraphy, in ONNX Runtime and in TensorRT."""
    start, tail = f"polygraphy run {MODEL}", f"--load-inputs {INPUTS} --load-outputs {OUTPUTS} {_limits(finding)}"
    return [f"{start} --onnxrt {tail}", f"{start} --trt{_typed(finding, '--strongly-typed')}{_shapes(finding)} {tail}"]


def trtexec_line(finding: Finding) -> str:
    """The run in TensorRT's own program."""
    files = finding.files(finding.piece.inputs, "inputs")
    loaded = ",".join(f"'{name}':{file}.bin" for name, file in files.items())
    shapes = ",".join(f"'{name}':{'x'.join(map(str, value.shape))}" for name, value in finding.piece.inputs.items())
    typed = _typed(finding, "--stronglyTyped") or " --noTF32"
    dynamic = f' --shapes="{shapes}"' if finding.piece.is_whole and not finding.sidecar.shapes.single else ""
    return f'trtexec --onnx={MODEL}{typed}{dynamic} --loadInputs="{loaded}" --exportOutput=found.json'


def _reducer(finding: Finding) -> list[str]:
    """Lines that reduce a whole graph on the machine of the engine that computes it wrong."""
    shapes = _input_shapes(finding)
    run = f"polygraphy run {MODEL} --onnxrt --load-inputs {INPUTS} --onnx-outputs mark all"
    check = "polygraphy run polygraphy_debug.onnx --trt --load-inputs layers-in.json --load-outputs layers.json"
    return [
        "polygraphy reduces the graph, where TensorRT computes it wrong:\n",
        "```\n"
        f"{run} --save-outputs layers.json\n"
        f"polygraphy data to-input {INPUTS} layers.json -o layers-in.json\n"
        f"polygraphy debug reduce {MODEL} -o reduced.onnx --mode=bisect --model-input-shapes {shapes} "
        f"--load-inputs layers-in.json --check {check} {_limits(finding)}\n```\n",
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _limits(finding: Finding) -> str:
    """Tolerances as polygraphy takes them: absolute, of the largest error; of the mean where only that is too large."""
    allowed = finding.allowed
    by_mean = all(finding.piece.error[0] <= each.max for each in allowed.values()) and not finding.passed
    limits = {name: (each.mean if by_mean else each.max) * finding.range_of(name) for name, each in allowed.items()}
    listed = " ".join(f"{limit:.3e}" if len(limits) == 1 else f"{name}:{limit:.3e}" for name, limit in limits.items())
    return f"--rtol 0 --atol {listed}{' --check-error-stat mean' if by_mean else ''}"


def _typed(finding: Finding, flag: str) -> str:
    return f" {flag}" if find_precision(finding.sidecar.precision).is_narrow else ""


def _input_shapes(finding: Finding) -> str:
    return " ".join(f"{name}:[{','.join(map(str, value.shape))}]" for name, value in finding.piece.inputs.items())


def _shapes(finding: Finding) -> str:
    free = finding.piece.is_whole and not finding.sidecar.shapes.single
    return f" --input-shapes {_input_shapes(finding)}" if free else ""


def _tensors(values: Mapping[str, np.ndarray], files: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "file": f"{files[name]}.npy", "shape": list(value.shape), "dtype": str(value.dtype)}
        for name, value in values.items()
    ]


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
