"""The PyTorch reference of an artefact, with the weights that the artefact was exported from. Needs PyTorch."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.store import sha256_of
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.spec import INPUT_FLOAT, ModelSpec, TensorSpec
from dpt_deploy.jobs.common.inputs import ReferenceDescription, reference_input
from dpt_deploy.jobs.common.weights import check_network, checkpoint_path, warn_of_recipes_alike
from dpt_deploy.runtime.registry import find_runtime

with extra("export", purpose="building the PyTorch reference"):
    from dpt_deploy.model.checkpoints.load import load_weights
    from dpt_deploy.model.checkpoints.match import KeyMatch
    from dpt_deploy.model.dpt import DPT
    from dpt_deploy.model.random_weights import random_model
    from dpt_deploy.model.rewrites.registry import approximated


def build_reference(spec: ModelSpec, source: WeightsSource) -> tuple[DPT, WeightsSource, KeyMatch | None]:
    """Build the module of ``spec`` with the weights of ``source``; return it with the source's hash filled in.

    If the hash is known, it is checked; if it is not, a warning names other recipes that the file fits as well.

    Raises:
        BadFileError: the checkpoint is missing, damaged, of another architecture, or not the one that was exported.
    """
    if source.is_random:
        return random_model(spec, seed=source.seed), source, None
    unknown = source.kind == "file" and not source.sha256  # of a recorded one the network was chosen before
    model, loaded = load_weights(spec, checkpoint_path(source), entry=source.entry, alike=unknown)
    found = _digest(loaded.files)
    if source.sha256 and source.sha256 != found:
        raise BadFileError(
            f"{source.path} is not the checkpoint that was exported (sha256 {found[:12]}…, not {source.sha256[:12]}…)",
            hint="name the right one with --weights FILE",
        )
    source = replace(source, sha256=found, family=loaded.family)
    check_network(spec, source)
    warn_of_recipes_alike(spec, source, loaded.alike)
    return model, source, loaded


def reference_of(sidecar: Sidecar, weights: str | None = None, *, against: Path | None = None) -> DPT:
    """Build the reference module of an exported artefact; ``weights`` is the present path of its checkpoint.

    ``against`` names another checkpoint for the same network.
    """
    source = sidecar.weights
    if against is not None:
        source = WeightsSource("file", path=str(against))
    elif weights:
        if source.is_random:
            raise UsageError("this artefact has random weights; --weights does not apply", hint="leave --weights out")
        source = replace(source, kind="file", path=str(Path(weights).absolute()))
    if not source.is_random and not checkpoint_path(source).exists():
        raise BadFileError(
            f"the checkpoint {source.path} is not there",
            hint="name the artefact's own with --weights FILE, or use --golden, which needs neither it nor PyTorch",
        )
    model = build_reference(sidecar.model, source)[0]
    if (approximation := sidecar.approximation) is None:
        return model
    return approximated(model, approximation.name, approximation.parameters)


def reference_outputs(model: DPT, sidecar: ReferenceDescription, images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute PyTorch's outputs for ``images`` (bytes, B, H, W, 3), with the names and the form of the artefact's.

    Scores become labels if the artefact ends in ArgMax.
    """
    inputs = [TensorSpec(INPUT_FLOAT, "float32", ("batch", 3, "height", "width"))]
    with find_runtime("torch").load()(model, inputs, sidecar.outputs) as runner:
        found: dict[str, np.ndarray] = runner.infer(reference_input(sidecar, images))
    for output in sidecar.outputs:
        if output.kind.values == "labels" and found[output.name].ndim == len(output.shape) + 1:
            found[output.name] = found[output.name].argmax(axis=1).astype(np.int32)
    return found


def _digest(files: tuple[Path, ...]) -> str:
    """Hash of one file, or of the list of hashes of a sharded checkpoint."""
    digests = [sha256_of(path) for path in sorted(files)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
