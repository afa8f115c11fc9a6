"""Run the whole pipeline once, on a photograph that ships with the package."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.progress import SILENT, reporting, say
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.bench import BenchRequest, BenchResult, bench_artifact
from dpt_deploy.jobs.common.weights import shipped_for
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.predict.files import run_files
from dpt_deploy.jobs.predict.photo import SHIPPED
from dpt_deploy.jobs.verify.result import Verification, raise_on_failure
from dpt_deploy.jobs.verify.verify import verify_artifact

SIZES = (Size(384, 384), Size(256, 640), Size(640, 256))
BATCHES = (1, 2)


@dataclass(frozen=True)
class Demo:
    """Files and measurements of the demo."""

    artifact: Artifact
    verification: Verification
    timing: BenchResult
    photograph: Path
    picture: Path


def run_demo(backbone: str, out: Path, *, seconds: float) -> Demo:
    """Export ``backbone``, verify it, predict the shipped photograph, and compare its speed with PyTorch.

    A model whose weights do not ship with the package gets random weights: nothing is downloaded.
    """
    recipe = load_recipe(backbone)
    weights = None if shipped_for(recipe) else "random"
    artifact = export_model(ExportRequest(recipe, weights=weights), out).artifact
    photograph = out / SHIPPED
    with as_file(files("dpt_deploy") / "data" / "photographs" / SHIPPED) as shipped, write_errors(photograph):
        shutil.copyfile(shipped, photograph)
    say(f"verifying {artifact.path}")
    with reporting(SILENT):
        verification = verify_artifact(artifact.path, res=SIZES, batch=BATCHES)
    raise_on_failure(verification)
    picture = out / f"{artifact.path.stem}-{photograph.stem}.png"
    with reporting(SILENT):
        run_files(artifact.path, photograph, picture, formats=("color",))
    say("timing")
    image = artifact.sidecar.image
    request = BenchRequest((Size(image.height, image.width),), seconds=seconds, photograph=photograph)
    with reporting(SILENT):
        timing = bench_artifact(artifact, request)
    return Demo(artifact, verification, timing, photograph, picture)
