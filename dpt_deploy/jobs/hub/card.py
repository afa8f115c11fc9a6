"""The model card: README.md with the front matter that the hub reads, and the licence."""

from __future__ import annotations

from collections.abc import Sequence

from dpt_deploy.artifact.records import ParityRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.jobs.hub.config import quantity_of
from dpt_deploy.jobs.hub.layout import FOLDER, HubFile

# Licences as weights.toml names them, to the hub's identifiers; any other is "other" with its name.
_IDENTIFIERS = {"MIT": "mit", "Apache-2.0": "apache-2.0", "CC-BY-NC-4.0": "cc-by-nc-4.0", "AGPL-3.0": "agpl-3.0"}
_MEANING = {
    "inverse depth": "relative inverse depth: larger is nearer, without unit, up to an unknown scale and shift",
    "relative depth": "relative depth: larger is farther, without unit, up to an unknown scale and shift",
    "metres": "depth in metres",
    "canonical depth": "depth in metres of a camera of fixed focal length; multiply it by focal length / "
    "canonical focal length, both in pixels of the network's input",
}


def model_card(files: Sequence[HubFile]) -> str:
    """The text of README.md: quantity, intended size, files with measured parity, use, and licence."""
    sidecar = files[0].artifact.sidecar
    name, pipeline = sidecar.model.name, pipeline_of(sidecar)
    sections = [_front_matter(sidecar, pipeline), f"# {name}", _introduction(sidecar)]
    if sidecar.weights.is_random:
        sections.append(f"**Weights: {sidecar.weights}.** The folder shows the layout only.")
    sections += ["## Files", _table(files), "## Use", _usage(pipeline), "## Limits", _limits(sidecar)]
    sections += ["## Licence", licence(sidecar)]
    return "\n\n".join(sections).rstrip() + "\n"


def pipeline_of(sidecar: Sidecar) -> str:
    """The hub's name of the task, which is also that of the pipeline in transformers.js."""
    return "depth-estimation" if sidecar.model.task == "depth" else "image-segmentation"


def licence(sidecar: Sidecar) -> str:
    """The licence of the weights, their origin, and the reason of what is known of commercial use."""
    weights = sidecar.weights
    lines = [f"Weights: {weights}", f"Licence of the weights: {weights.licence or 'not recorded'}"]
    if weights.sha256:
        lines.append(f"SHA-256 of the checkpoint: {weights.sha256}")
    if weights.commercial:
        reason = f" ({weights.training_data})" if weights.training_data else ""
        lines.append(f"Commercial use: {weights.commercial}{reason}")
    return "\n".join(f"- {line}" for line in lines)


def _front_matter(sidecar: Sidecar, pipeline: str) -> str:
    named = sidecar.weights.licence
    lines = [f"license: {_IDENTIFIERS.get(named, 'other')}"]
    if named and named not in _IDENTIFIERS:
        lines.append(f"license_name: {'-'.join(named.lower().split())}")
    lines += ["library_name: transformers.js", f"pipeline_tag: {pipeline}", "tags:", "- onnx", "- dpt"]
    return "\n".join(["---", *lines, "---"])


def _introduction(sidecar: Sidecar) -> str:
    image, quantity = sidecar.image, quantity_of(sidecar)
    static = sidecar.shapes.static_size
    shape = " x ".join(map(str, sidecar.outputs[0].shape))
    sizes = (
        f"images of {static} pixels only"
        if static
        else f"any height and width that are multiples of {sidecar.shapes.stride}"
    )
    return (
        f"Output `{sidecar.outputs[0].name}` ({shape}): {_MEANING.get(quantity, quantity)}.\n\n"
        f"Intended size: {image.height} x {image.width} (height x width). The graph takes {sizes}."
    )


def _table(files: Sequence[HubFile]) -> str:
    head = "| file | dtype | MiB | max error | mean error | compared with PyTorch by |\n|---|---|---|---|---|---|"
    rows = [f"| `{FOLDER}/{file.name}` | `{file.dtype}` | {_mebibytes(file)} | {_errors(file)} |" for file in files]
    note = (
        "Errors are over the range of PyTorch's output, the largest of the recorded cases. Each file has a sidecar "
        "(`.json`) with every case, and PyTorch's own tensors (`.golden.npz`). `dpt-deploy verify "
        f"{FOLDER}/{files[0].name} --golden` repeats the comparison."
    )
    return "\n".join([head, *rows]) + "\n\n" + note


def _mebibytes(file: HubFile) -> str:
    return f"{file.artifact.path.stat().st_size / 2**20:.1f}"


def _errors(file: HubFile) -> str:
    parity = file.artifact.sidecar.parity
    return "not recorded | not recorded | -" if parity is None else _measured(parity)


def _measured(parity: ParityRecord) -> str:
    largest = [case.max for case in parity.cases if case.max is not None]
    mean = [case.mean for case in parity.cases if case.mean is not None]
    if not largest or not mean:
        return f"not measurable | not measurable | {parity.runtime}"
    sizes = ", ".join(dict.fromkeys(case.size for case in parity.cases))
    return f"{max(largest):.1e} | {max(mean):.1e} | {parity.runtime}, {sizes}"


def _usage(pipeline: str) -> str:
    return (
        "```js\n"
        'import { pipeline } from "@huggingface/transformers";\n\n'
        f'const run = await pipeline("{pipeline}", "this folder or its name on the hub");\n'
        'const result = await run("photo.jpg");\n'
        "```\n\n"
        f"```\ndpt-deploy run {FOLDER}/model.onnx photo.jpg\n```"
    )


def _limits(sidecar: Sidecar) -> str:
    lines = [
        "transformers.js resizes photographs by other filters than the original code, so its maps differ slightly "
        "from those of `dpt-deploy run`; the network computes the same."
    ]
    if sidecar.image.resize != "minimal":
        lines.append(f"The network was trained with the resize rule `{sidecar.image.resize}`; libraries use `minimal`.")
    if sidecar.model.task != "depth":
        lines.append(
            "`config.json` says `segformer`, since transformers.js has no segmentation by DPT: its class for Segformer "
            "only runs the graph and takes the largest score."
        )
    return "\n".join(f"- {line}" for line in lines)
