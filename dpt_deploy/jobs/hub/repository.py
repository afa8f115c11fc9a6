"""Write a folder in the hub's layout, whole or not at all, and read it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.folders import check_place, replaced_folder
from dpt_deploy.artifact.store import open_model, write_sidecar
from dpt_deploy.core.documents import parse_json
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.hub.card import licence, model_card
from dpt_deploy.jobs.hub.config import KEY, check_configs, model_config, preprocessor_config
from dpt_deploy.jobs.hub.layout import FILES, FOLDER, HubFile, hub_files

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"


def write_hub_folder(artifacts: Sequence[Path | str], out: Path | str, *, force: bool = False) -> Path:
    """Write ``artifacts`` of one network, one of each precision, to the folder ``out`` in the hub's layout.

    The folder has ``config.json``, ``preprocessor_config.json``, ``onnx/model.onnx`` (FP32), ``model_fp16.onnx`` and
    ``model_quantized.onnx`` (INT8 for CPUs) as far as they were given, each with its sidecar and golden tensors, a
    model card and the licence of the weights. ``force`` replaces a folder that this function has written.

    Raises:
        UsageError: the artefacts do not fit into one folder, or ``out`` holds something else.
        BadFileError: an artefact is missing, unfinished, damaged or an engine.
        ResourceError: the folder cannot be written.
    """
    out = Path(out)
    files = hub_files(artifacts)
    check_place(out, "a folder of this command", is_kind=_is_written_here, force=force)
    sidecar = files[0].artifact.sidecar
    with replaced_folder(out) as new:
        (new / FOLDER).mkdir()
        for file in files:
            for source, name in file.sources():
                shutil.copyfile(source, new / FOLDER / name)
            write_sidecar(new / FOLDER / file.name, file.sidecar)
        _write_json(new / PROCESSOR, preprocessor_config(sidecar))
        _write_json(new / CONFIG, model_config(files))
        (new / "LICENSE").write_text(licence(sidecar) + "\n", encoding="utf-8")
        (new / "README.md").write_text(model_card(files), encoding="utf-8")
        check_hub_folder(new)
    if sidecar.weights.is_random:
        say(f"{out}: weights: {sidecar.weights}")
    return out


def check_hub_folder(folder: Path | str) -> tuple[HubFile, ...]:
    """Check a folder in the hub's layout: hashes of its files, and both documents against the sidecars.

    Raises:
        BadFileError: a file is missing or damaged, or a document contradicts the sidecars.
    """
    folder = Path(folder)
    found = tuple(
        HubFile(open_model(path), path.name, dtype)
        for stem, dtype in FILES.values()
        if (path := folder / FOLDER / f"{stem}.onnx").is_file()
    )
    if not found:
        raise BadFileError(f"{folder} has no {FOLDER}/model.onnx", hint="write one: dpt-deploy convert --to hub")
    check_configs(found, _read_json(folder / CONFIG), _read_json(folder / PROCESSOR))
    return found


def _is_written_here(folder: Path) -> bool:
    try:
        return KEY in _read_json(folder / CONFIG)
    except BadFileError:
        return False


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise BadFileError(f"{path} cannot be read: {exc}", hint="write the folder again") from exc
    if not isinstance(found, dict):
        raise BadFileError(f"{path} is no JSON object", hint="write the folder again")
    return found
