"""Facts that an ONNX file carries for readers who have it without its sidecar (``metadata_props``)."""

from __future__ import annotations

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.core.task import Task
from dpt_deploy.jobs.export.request import ExportRequest

PREFIX = "dpt_deploy."
_NUMBERS = {
    "inverse depth": "inverse depth without scale and shift, larger is nearer",
    "relative depth": "relative depth without scale and shift, larger is farther",
    "canonical depth": "canonical depth; metres after a multiplication by focal length / canonical focal length",
    "metres": "metres",
    "sky": "sky, about 0 on the ground and 1 in the sky",
}


def metadata_of(request: ExportRequest, source: WeightsSource) -> dict[str, str]:
    """The facts of one file by key; numbers are separated by spaces.

    The sidecar's hash is not among them: the sidecar holds the hash of the file.
    """
    recipe, image = request.recipe, request.recipe.image
    inside = request.input_kind == "uint8"
    facts = {
        "name": recipe.name,
        "precision": request.precision,
        "sidecar": f"{request.stem}.onnx.json",
        "image.channels": "RGB",
        "image.input": "bytes, normalised inside the graph" if inside else "(value / 255 - mean) / std",
        "image.mean": " ".join(map(str, image.mean)),
        "image.std": " ".join(map(str, image.std)),
        "image.height": str(image.height),
        "image.width": str(image.width),
        "image.resize": image.resize,
        "image.keep_aspect": str(image.keep_aspect).lower(),
        "image.multiple_of": str(recipe.model.stride),
        "weights": str(source),
        "weights.sha256": source.sha256,
        "weights.licence": source.licence,
        **{f"output.{task.output}": _quantity(task) for task in request.tasks},
    }
    return {PREFIX + key: value for key, value in facts.items() if value}


def _quantity(task: Task) -> str:
    if task.values == "numbers":
        return _NUMBERS.get(task.quantity or task.name, task.name)
    return "scores of classes" if task.values == "scores" else "classes, counted from 0"
