"""Write the files of a folder for a report, and recognise such a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.store import sha256_of
from dpt_deploy.core.documents import parse_json
from dpt_deploy.core.optional import extra
from dpt_deploy.graph.pieces import save_model
from dpt_deploy.jobs.repro.texts import CHECK, INPUTS, KIND, MODEL, OUTPUTS, SUMS, Finding, facts, readme

with extra("polygraphy", purpose="writing tensors in polygraphy's format"):
    from polygraphy.comparator import IterationResult, RunResults
    from polygraphy.json import save_json
    from polygraphy.logger import G_LOGGER

_FACTS = "repro.json"


def write_files(finding: Finding, folder: Path) -> None:
    """Write everything into the empty ``folder``, the list of hashes last."""
    piece = finding.piece
    save_model(piece.model, folder / MODEL)
    _write_arrays(folder, piece.inputs, finding.files(piece.inputs, "inputs"))
    _write_arrays(folder, piece.expected, finding.files(piece.expected, "outputs"))
    with G_LOGGER.verbosity(G_LOGGER.ERROR):  # it names every file that it writes
        save_json([dict(piece.inputs)], str(folder / INPUTS))
        result = IterationResult(outputs=dict(piece.expected), runner_name="expected")
        RunResults([("expected", [result])]).save(str(folder / OUTPUTS))
    (folder / CHECK).write_bytes((files("dpt_deploy") / "data" / "repro" / CHECK).read_bytes())
    (folder / _FACTS).write_text(json.dumps(facts(finding), indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(finding), encoding="utf-8")
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in written)
    (folder / SUMS).write_text(sums, encoding="utf-8")


def is_repro_folder(folder: Path) -> bool:
    """Return True if this program has written ``folder``."""
    try:
        found = parse_json((folder / _FACTS).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _write_arrays(folder: Path, values: Mapping[str, np.ndarray], places: Mapping[str, str]) -> None:
    for name, value in values.items():
        path = folder / places[name]
        path.parent.mkdir(exist_ok=True)
        np.save(path.with_name(f"{path.name}.npy"), value)
        path.with_name(f"{path.name}.bin").write_bytes(np.ascontiguousarray(value).tobytes())
