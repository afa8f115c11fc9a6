"""Write the page: its assets, the models with their sidecars, and ONNX Runtime for the browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.folders import check_place, replaced_folder
from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.artifact.store import Artifact, open_model, sidecar_path
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.progress import say
from dpt_deploy.imaging.palette import palette
from dpt_deploy.jobs.web.vendor import VERSION, copy_runtime, fetch_runtime

INDEX = "site.json"
MODELS, RUNTIME = "models", "runtime"
_KEY = "dpt_deploy_web"


def write_site(
    artifacts: Sequence[Path | str], out: Path | str, *, runtime: Path | None = None, force: bool = False
) -> Path:
    """Write a page that runs ``artifacts`` to the folder ``out``, whole or not at all.

    ``runtime`` is an unpacked npm package onnxruntime-web; without it npm fetches the package. ``force`` replaces a
    folder that this function has written.

    Raises:
        UsageError: no artefact was given, one cannot run in a browser, or ``out`` holds something else.
        BadFileError: an artefact is missing, unfinished, damaged or an engine; or the runtime is another one.
        ResourceError: the folder cannot be written, or the runtime cannot be fetched.
    """
    out = Path(out)
    models = _opened(artifacts)
    check_place(out, "a folder of this command", is_kind=_is_written_here, force=force)
    with replaced_folder(out) as new:
        with as_file(files("dpt_deploy") / "data" / "web") as assets:
            for asset in sorted(assets.iterdir()):
                shutil.copyfile(asset, new / asset.name)
        if runtime is None:
            say(f"fetching onnxruntime-web {VERSION} by npm")
            with scratch_folder(new) as scratch:
                copy_runtime(fetch_runtime(scratch), new / RUNTIME)
        else:
            copy_runtime(runtime, new / RUNTIME)
        (new / MODELS).mkdir()
        for model in models:
            for payload in model.sidecar.payloads:
                shutil.copyfile(model.path.with_name(payload.name), new / MODELS / payload.name)
            shutil.copyfile(sidecar_path(model.path), sidecar_path(new / MODELS / model.path.name))
        document = {
            _KEY: 1,
            "onnxruntime_web": VERSION,
            "models": [each for model in models for each in entries_of(model)],
        }
        (new / INDEX).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return out


def entries_of(model: Artifact) -> list[dict[str, Any]]:
    """Return what the page offers of one artefact: each of its outputs, named by what it shows if there are several."""
    outputs = model.sidecar.outputs
    if len(outputs) == 1:
        return [_entry(model, outputs[0], "")]
    return [_entry(model, each, ", labels" if each.kind.of_classes else f", {each.task}") for each in outputs]


def _entry(model: Artifact, output: OutputRecord, suffix: str) -> dict[str, Any]:
    """The facts that the page reads: image rule, ends, and how the output becomes a map."""
    sidecar = model.sidecar
    static, image = sidecar.shapes.static_size, sidecar.image
    if static is not None:
        image = replace(image, height=static.height, width=static.width, keep_aspect=False)
    of_classes = output.kind.of_classes
    return {
        "name": f"{sidecar.model.name}{suffix}",
        "precision": sidecar.precision,
        "file": f"{MODELS}/{model.path.name}",
        "weights": str(sidecar.weights),
        "random": sidecar.weights.is_random,
        "image": asdict(image),
        "stride": sidecar.shapes.stride,
        "static": static is not None,
        "input": {"name": sidecar.inputs[0].name, "kind": sidecar.input_kind},
        "output": {
            "name": output.name,
            "resample": output.kind.resample,
            "quantity": output.kind.quantity,
            "focal": sidecar.model.canonical_focal,
        },
        "palette": palette(sidecar.model.num_classes).tolist() if of_classes else None,
    }


def _opened(paths: Sequence[Path | str]) -> list[Artifact]:
    if not paths:
        raise UsageError("no artefact was given", hint="for example: web out/tiny-fp32.onnx -o site/")
    models = [open_model(path) for path in paths]
    names: set[str] = set()
    for model in models:
        sidecar, name = model.sidecar, model.path.name
        extra = [each.name for each in sidecar.payloads if each.name not in (name, sidecar.golden)]
        if extra:
            raise UsageError(
                f"{model.path} keeps its weights in {extra[0]}; a browser cannot hold a model of that size",
                hint="export a smaller network, or in fp16 or int8-cpu",
            )
        if sidecar.model.sky is not None and len(sidecar.outputs) > 1:
            raise UsageError(
                f"{model.path} returns the sky next to depth, and the page does not fill it",
                hint="export it again with --task depth",
            )
        if name in names:
            raise UsageError(f"two artefacts are named {name}; expected different names", hint="rename one of them")
        names.add(name)
    return models


def _is_written_here(folder: Path) -> bool:
    try:
        return _KEY in json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError, TypeError):
        return False
