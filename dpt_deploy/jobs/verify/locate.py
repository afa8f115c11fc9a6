"""Name the tensor at which an artefact leaves its reference: module outputs of PyTorch against tensors of the graph.

The exporter names a tensor after its module, so a name means the same quantity on both sides. The graph is compared
with the rewritten module (:mod:`dpt_deploy.model.rewrites.exact`), which has the same parts. The rewritten module is
compared with the original first, so that an error of the rewriting is found as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import model_inputs, parity_images, reference_input
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.verify.bisect import first_divergence
from dpt_deploy.jobs.verify.result import Divergence
from dpt_deploy.runtime.registry import find_runtime

with extra("export", purpose="finding the tensor that diverges"):
    import torch

    from dpt_deploy.graph.analysis.opened import read_graph
    from dpt_deploy.graph.mark import float_tensors, mark_outputs
    from dpt_deploy.graph.precision.emulate import write_emulated
    from dpt_deploy.model.dpt import DPT
    from dpt_deploy.model.rewrites.registry import exactly_rewritten

Values = dict[str, np.ndarray]
_ROOT = ""  # the name of the whole network among its modules


def locate_divergence(
    artifact: Artifact, module: DPT, batch: int, size: Size, output: OutputRecord
) -> Divergence | None:
    """The first tensor that exceeds the tolerance of ``output``, or None if all that can be compared agrees."""
    tolerance, images = output.allowed, parity_images(artifact.sidecar.precision, batch, size)
    rewritten = exactly_rewritten(module)
    rewriting = _rewriting_error(module, rewritten, artifact, images, tolerance)
    if rewriting:
        return rewriting
    tensors = matching_tensors(artifact, rewritten, output)

    def probe(chunk: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        reference = module_outputs(rewritten, reference_input(artifact.sidecar, images), chunk)
        wanted = [tensors[name] for name in reference]
        candidate = _graph_tensors(artifact, model_inputs(artifact.sidecar, images), wanted)
        same = {name: (candidate[tensors[name]], reference[name]) for name in reference}
        return {name: same.get(name, (np.zeros(1), np.zeros(1))) for name in chunk}

    found = first_divergence(list(tensors), probe, tolerance)
    if found is None:
        return None
    return replace(found, tensor=tensors[found.tensor], last_good=tensors[found.last_good] if found.last_good else None)


def matching_tensors(artifact: Artifact, rewritten: DPT, output: OutputRecord) -> dict[str, str]:
    """Modules of the network whose output is a tensor of the graph, in execution order, and the name of that tensor."""
    modules = dict(rewritten.named_modules())
    tensors = {tensor: tensor for tensor in float_tensors(read_graph(artifact.path)) if tensor in modules}
    if len(artifact.sidecar.outputs) == 1 and output.kind.compare == "range":  # else the network returns another thing
        tensors[_ROOT] = output.name
    return tensors


def _rewriting_error(
    module: DPT, rewritten: DPT, artifact: Artifact, images: np.ndarray, tolerance: Tolerance
) -> Divergence | None:
    """Compare the modules that the network names as comparable before and after the rewrites."""
    kept = module.landmarks.comparable
    inputs = reference_input(artifact.sidecar, images)

    def probe(chunk: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        before, after = module_outputs(module, inputs, chunk), module_outputs(rewritten, inputs, chunk)
        empty = np.zeros(1)
        return {name: (after.get(name, empty), before.get(name, empty)) for name in chunk}

    found = first_divergence(kept, probe, tolerance)
    return None if found is None else Divergence(f"{found.tensor} (rewritten)", found.max, found.mean, found.last_good)


def module_outputs(module: DPT, inputs: Values, names: Sequence[str]) -> Values:
    """Outputs of the named sub-modules in one forward pass.

    The last of several tensors counts, as in the graph; modules that return no tensor are left out.
    """
    found: Values = {}
    handles = []
    modules = dict(module.named_modules())
    for name in names:
        if name in modules:

            def keep(_module: Any, _inputs: Any, output: Any, name: str = name) -> None:
                output = output[-1] if isinstance(output, tuple | list) else output
                if isinstance(output, torch.Tensor):
                    found[name] = output.detach().float().cpu().numpy().copy()

            handles.append(modules[name].register_forward_hook(keep))
    try:
        with torch.inference_mode():
            module(*(torch.from_numpy(value) for value in inputs.values()))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _graph_tensors(artifact: Artifact, inputs: Values, names: list[str]) -> Values:
    """The named tensors of the graph, computed by ONNX Runtime from a marked copy of the file.

    A typed graph is emulated first; its tensors keep their names.
    """
    if not names:
        return {}
    path = artifact.path
    external = path.with_name(path.name + ".data").is_file()  # then the copy must stand where its weights are
    with scratch_folder(path.parent if external else None) as folder:
        marked = folder / "marked.onnx"
        if find_runtime(reference_runtime(artifact.sidecar)).emulates:
            write_emulated(path, folder / "emulated.onnx")
            path, external = folder / "emulated.onnx", False
        mark_outputs(path, names, marked)
        if external:
            (folder / f"{path.name}.data").hardlink_to(path.with_name(path.name + ".data"))
        with open_runner(marked) as runner:
            return runner.infer(inputs)
