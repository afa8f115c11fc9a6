"""Steps for one published checkpoint: fetch, load, compare with published numbers, export and verify, score."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

import dpt_deploy
from dpt_deploy.artifact.store import sha256_of
from dpt_deploy.core.recipe import Recipe
from dpt_deploy.model.checkpoints.fetch import fetch
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.published import PublishedWeights
from dpt_deploy.model.dpt import DPT

SLICES = Path(__file__).parents[2] / "tests/golden/published_slices.json"
TOLERANCE = 2e-3  # of a value: the processors' resize differs in the last bit of a pixel, the numbers have five digits


@dataclass(frozen=True)
class Task:
    """One published file, the recipe it belongs to, a folder to work in, and the COCO photograph 000000039769.jpg."""

    entry: PublishedWeights
    recipe: Recipe
    folder: Path
    photograph: Path | None


def fetched(task: Task) -> dict[str, Any]:
    """Download the file; return its full SHA-256, its size, and the check it passed."""
    path = fetch(task.entry)
    return {"sha256": sha256_of(path), "size_bytes": path.stat().st_size, "checked": task.entry.checked}


def loaded(task: Task) -> dict[str, Any]:
    """Load the file strictly; return the number of parameters."""
    model, _ = load_weights(task.recipe.model, fetch(task.entry))
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def compared(task: Task) -> dict[str, Any]:
    """Compare the output with the numbers that Hugging Face publishes; return the largest relative difference.

    Raises:
        LookupError: no numbers are published for this file, or the photograph is missing.
        ValueError: the difference exceeds :data:`TOLERANCE`.
    """
    published = _slice_of(task.entry)
    if task.photograph is None:
        raise LookupError("the COCO photograph 000000039769.jpg is missing: give --photograph")
    spec = task.recipe.model
    # The published folders, from which the numbers are, keep the library's default epsilon.
    spec = replace(spec, encoder=replace(spec.encoder, norm_eps=1e-12))  # type: ignore[call-arg]
    model, _ = load_weights(spec, fetch(task.entry))
    found = corner(model, huggingface_pixels(task.photograph, published["side"])) * published["factor"]
    wanted = np.array(published["corner"])
    difference = float(np.abs(found / wanted - 1).max())
    if difference > TOLERANCE:
        raise ValueError(f"differs by {difference:.2e}, allowed {TOLERANCE:g}: {found.tolist()}")
    return {"largest_relative_difference": difference, "allowed": TOLERANCE}


def exported(task: Task) -> dict[str, Any]:
    """Export in FP32 and verify the recipe's matrix; return the largest errors over the output's range."""
    request = dpt_deploy.ExportRequest(task.recipe, weights=str(fetch(task.entry)))
    artifact = dpt_deploy.export_model(request, task.folder, force=True).artifact
    found = dpt_deploy.verify_artifact(artifact.path)
    cases = found.comparison.cases
    if not found.comparison.passed:
        raise ValueError(f"{len(found.comparison.failures)} of {len(cases)} cases exceed their tolerance")
    return {"cases": len(cases), "max": max(case.max or 0.0 for case in cases)}


def scored(task: Task) -> dict[str, Any]:
    """Run the exported model on the photograph with measured disparity; return R² after alignment (depth models only).

    Raises:
        LookupError: the model gives no inverse depth.
    """
    if task.entry.task != "depth" or task.recipe.model.metric is not None:
        raise LookupError("it gives no inverse depth")
    (path,) = task.folder.glob("*.onnx")
    image, _, disparity = data.stereo_motorcycle()  # type: ignore[no-untyped-call]
    with dpt_deploy.load(path) as predict:
        depth = np.asarray(predict(image).depth)
    known = np.isfinite(disparity) & (disparity > 0)
    return {"photograph": "Middlebury 2014 motorcycle", "explained_variance": explained(depth[known], disparity[known])}


def explained(found: np.ndarray, target: np.ndarray) -> float:
    """R² of the least-squares fit of ``target`` by ``found`` and a constant."""
    matrix = np.stack([found, np.ones_like(found)], axis=1).astype(np.float64)
    target = target.astype(np.float64)
    fit = matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0]
    return float(1 - ((target - fit) ** 2).sum() / ((target - target.mean()) ** 2).sum())


def huggingface_pixels(path: Path, side: int) -> torch.Tensor:
    """The input of the published processors: squashed to a square, bicubic with antialias, on 8-bit pixels."""
    image = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.float32) / 255.0
    return torch.from_numpy(((pixels - 0.5) / 0.5).transpose(2, 0, 1)[None].copy())


def corner(model: DPT, pixels: torch.Tensor) -> np.ndarray:
    """Upper left 3 x 3 values of the output (of the first class, for segmentation)."""
    with torch.inference_mode():
        output = model(pixels)
    plane = output[0] if output.ndim == 3 else output[0, 0]  # depth has no channel axis
    return np.asarray(plane[:3, :3])


def _slice_of(entry: PublishedWeights) -> dict[str, Any]:
    for found in json.loads(SLICES.read_text(encoding="utf-8"))["slices"]:
        if entry.default and (found["recipe"], found["task"]) == (entry.recipe, entry.task):
            return dict(found)
    raise LookupError("Hugging Face publishes no numbers for this file")


STEPS = {"fetch": fetched, "load": loaded, "compare": compared, "export": exported, "score": scored}
