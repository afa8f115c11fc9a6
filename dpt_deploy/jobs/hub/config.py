"""``config.json`` and ``preprocessor_config.json``, as the libraries of the hub read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.encoders import Dinov2Spec, TransformerSpec
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.jobs.hub.layout import HubFile
from dpt_deploy.model.families.backbone_config import describe_dpt_on_dinov2
from dpt_deploy.model.families.dinov2_config import describe_depth_anything
from dpt_deploy.model.families.huggingface_config import describe, describe_processor

_HEAD = ("depth_estimation_type", "max_depth")
KEY = "dpt_deploy"  # our own facts in config.json


def model_config(files: Sequence[HubFile]) -> dict[str, Any]:
    """The content of ``config.json``.

    The entry ``transformers.js_config`` names the number format that is loaded when none is asked for. transformers.js
    has no segmentation by DPT: there its class of Segformer runs the graph and takes the largest score, which is the
    same for every network with an output ``logits``. ``architectures`` names the network.
    """
    sidecar = files[0].artifact.sidecar
    model, depth = sidecar.model, sidecar.model.task == "depth"
    anything = depth and isinstance(model.encoder, Dinov2Spec) and model.decoder == "dpt"
    architecture = "DepthAnythingForDepthEstimation" if anything else "DPTForDepthEstimation"
    config = _described(model) | {
        "model_type": "segformer" if not depth else "depth_anything" if anything else "dpt",
        "architectures": [architecture if depth else "DPTForSemanticSegmentation"],
        "image_size": sidecar.image.height,
    }
    if model.num_classes:
        labels = {str(index): f"LABEL_{index}" for index in range(model.num_classes)}
        config |= {"id2label": labels, "label2id": {name: int(index) for index, name in labels.items()}}
    config["transformers.js_config"] = {"dtype": files[0].dtype}
    config[KEY] = {
        "network": model.name,
        "quantity": quantity_of(sidecar),
        "stride": sidecar.shapes.stride,
        "files": {file.dtype: f"onnx/{file.name}" for file in files},
    }
    return config


def _described(model: ModelSpec) -> dict[str, Any]:
    """The library's own entries for the network; none where it has no such network."""
    encoder = model.encoder
    if isinstance(encoder, TransformerSpec) and model.decoder == "dpt":
        return describe(model, encoder)
    if not isinstance(encoder, Dinov2Spec) or model.task != "depth":
        return {}
    if model.decoder == "dinov2":
        return describe_dpt_on_dinov2(model, encoder)
    config = describe_depth_anything(model, encoder)
    left_out = _HEAD if model.activation == "exp" else ()  # Depth Anything 3: the library has no such head
    return {key: value for key, value in config.items() if key not in left_out}


def preprocessor_config(sidecar: Sidecar) -> dict[str, Any]:
    """The content of ``preprocessor_config.json``: the image rule, as near as the libraries' own resizing comes to it.

    They keep the aspect by the rule ``minimal``; networks with another rule get images of about the same size.
    """
    image, static = sidecar.image, sidecar.shapes.static_size
    height, width = (static.height, static.width) if static else (image.height, image.width)
    keep_aspect = image.keep_aspect and static is None
    config = describe_processor(image, Size(height, width), keep_aspect=keep_aspect, multiple=sidecar.shapes.stride)
    if sidecar.model.task != "depth":
        config["image_processor_type"] = "SegformerImageProcessor"
    return config | {"do_reduce_labels": False}


def quantity_of(sidecar: Sidecar) -> str:
    """The quantity of the first output: that of a depth map, or ``scores of N classes``."""
    return sidecar.model.output_quantity or f"scores of {sidecar.model.num_classes} classes"


def check_configs(files: Sequence[HubFile], config: dict[str, Any], processor: dict[str, Any]) -> None:
    """Compare the two documents of a folder with its sidecars.

    Raises:
        BadFileError: an entry is missing or differs; the message names it.
    """
    for name, found, expected in (
        ("config.json", config, model_config(files)),
        ("preprocessor_config.json", processor, preprocessor_config(files[0].artifact.sidecar)),
    ):
        for key, value in expected.items():
            if key not in found or found[key] != value:
                shown = found.get(key, "nothing")
                raise BadFileError(
                    f"{name} has {key} = {shown!r}; the sidecars say {value!r}", hint="write the folder again"
                )
