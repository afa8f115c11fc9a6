"""Configuration of a model for Triton, built and read by the server's own protobuf definition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.imaging.maps import map_type
from dpt_deploy.jobs.serve.request import ServedModel

with extra("serve", purpose="a model repository for Triton"):
    from tritonclient.grpc.model_config_pb2 import ModelConfig  # isort: skip  (named if missing)
    from google.protobuf import text_format

CONFIG = "config.pbtxt"
BACKENDS = {"onnx": "onnxruntime", PLAN: "tensorrt"}
IMAGE_INPUT = "image"  # the bytes of an image file
HASH, NETWORK, THREADS = "dpt_deploy_sha256", "network", "intra_op_thread_count"
MODEL_FILE = "model.py"
_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}


def network_config(model: ServedModel) -> Any:
    """The configuration of a network: tensors, batches, profiles, instances, queue, warm-up."""
    sidecar, batched = model.sidecar, model.batched
    config = ModelConfig(name=model.name, backend=BACKENDS[sidecar.kind], default_model_filename=model.file)
    config.max_batch_size = model.max_batch if batched else 0
    for end in sidecar.inputs:
        config.input.add(**_tensor(end, batched=batched))
    for output in sidecar.outputs:
        config.output.add(**_tensor(output.tensor, batched=batched))
    group = config.instance_group.add(count=model.instances)
    group.profile.extend(str(index) for index in range(len(model.profiles)))
    if batched:
        _add_queue(config, model)
    _add_warmups(config, model)
    payload = next(each for each in sidecar.payloads if each.name == model.file)
    config.parameters[HASH].string_value = payload.sha256
    if model.options.threads and sidecar.kind != PLAN:
        config.parameters[THREADS].string_value = str(model.options.threads)
    return config


def image_config(model: ServedModel) -> Any:
    """The configuration of the model that turns image files into maps, by calling the network.

    A request has one image. Where the server forms batches, images of one network size are computed together.
    """
    config = ModelConfig(name=model.image_name, backend="python", default_model_filename=MODEL_FILE)
    config.max_batch_size = model.max_batch if model.batched else 1
    config.input.add(name=IMAGE_INPUT, data_type="TYPE_STRING", dims=[1])
    for each in model.sidecar.outputs:
        config.output.add(name=each.name, data_type=_TYPES[str(map_type(each.kind))], dims=[-1, -1])
    config.instance_group.add(count=model.instances)
    _add_queue(config, model)
    config.parameters[NETWORK].string_value = model.name
    return config


def _tensor(spec: TensorSpec, *, batched: bool) -> dict[str, Any]:
    """A tensor as Triton describes it: -1 is any size, and the batch is left out where it is free."""
    dims = [dim if isinstance(dim, int) else -1 for dim in spec.shape[int(batched) :]]
    return {"name": spec.name, "data_type": _TYPES[spec.dtype], "dims": dims}


def _add_queue(config: Any, model: ServedModel) -> None:
    """Let the server form batches on a GPU, and bound its queue if asked to.

    On a CPU batches gain next to nothing, and Triton's batcher costs much: if an instance is not yet back when the
    batcher looks for one, it looks again after half a second. A bound needs the batcher, and so does a time limit.
    """
    if model.device == "cpu" and not model.options.queue:
        return
    config.dynamic_batching.SetInParent()
    if model.options.queue:
        config.dynamic_batching.default_queue_policy.max_queue_size = model.options.queue


def _add_warmups(config: Any, model: ServedModel) -> None:
    entry = model.sidecar.inputs[0]
    for batch, size in model.warm_shapes:
        warmup = config.model_warmup.add(name=f"{size} batch {batch}", batch_size=batch if model.batched else 0)
        known = {"batch": batch, "height": size.height, "width": size.width}
        shape = [dim if isinstance(dim, int) else known[dim] for dim in entry.shape]
        warmup.inputs[entry.name].data_type = config.input[0].data_type
        warmup.inputs[entry.name].dims.extend(shape[int(model.batched) :])
        warmup.inputs[entry.name].random_data = True


def to_text(config: Any) -> str:
    """The text of a ``config.pbtxt``."""
    return str(text_format.MessageToString(config))


def read_config(path: Path) -> Any:
    """Read a ``config.pbtxt`` as the server does.

    Raises:
        BadFileError: it is missing, or has a field or value that the server does not know.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as exc:
        raise BadFileError(
            f"{path} cannot be read: {exc}", hint="write the repository again: dpt-deploy serve-repo"
        ) from exc


def ends_of(entries: Sequence[Any]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Data type and dimensions of inputs or outputs, by name."""
    return {entry.name: (entry.data_type, tuple(entry.dims)) for entry in entries}
