"""``dpt-deploy train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dpt_deploy.cli._options import PATH, json_option
from dpt_deploy.cli._output import print_facts, print_json

if TYPE_CHECKING:
    from dpt_deploy.jobs.train.train import Trained


@click.command()
@click.argument("study", type=PATH)
@click.option("-o", "--out", type=PATH, default=Path("out/train"), show_default=True, help="Folder of the results.")
@click.option("--cache", type=PATH, help="Folder of the rendered scenes, which trainings share (default: OUT).")
@click.option("--device", default="cpu", show_default=True, help="Where to render and train: cpu, cuda, cuda:1, …")
@json_option
def command(study: Path, out: Path, cache: Path | None, device: str, as_json: bool) -> None:
    """Train a model on rendered scenes by the paper's recipe.

    Interrupted, the same command goes on where it was a minute before. The result is a safetensors file for
    `export --weights`, and a record of the training beside it.

    \b
    dpt-deploy train benchmarks/trainings/tiny.toml -o out/train
    dpt-deploy export --backbone tiny --weights out/train/tiny.safetensors -o out/
    """
    from dpt_deploy.jobs.train.train import read_training, train_model

    plan = read_training(study)
    trained = train_model(plan, out, cache=cache, device=device)
    if as_json:
        print_json({"weights": str(trained.weights), "record": str(trained.record), **trained.to_dict()})
        return
    rows = [
        *_score(trained),
        ["time", f"{trained.history.seconds / 60:.1f} minutes of training"],
        ["record", str(trained.record)],
    ]
    print_facts(f"{plan.backbone}: {trained.weights}", rows)


def _score(trained: Trained) -> list[list[str]]:
    from dpt_deploy.jobs.train.train import DepthScore

    score, scenes = trained.score, f"on {trained.plan.validation.scenes} unseen scenes"
    if isinstance(score, DepthScore):
        share = 100 * score.abs_rel / score.plane_abs_rel
        return [
            ["AbsRel", f"{score.abs_rel:.4f} {scenes}"],
            ["best plane", f"{score.plane_abs_rel:.4f}; the model has {share:.0f} % of it"],
        ]
    return [
        ["mean IoU", f"{100 * score.mean_iou:.1f} % {scenes}"],
        [
            "pixel accuracy",
            f"{100 * score.pixel_accuracy:.1f} %; the commonest class has {100 * score.commonest:.1f} %",
        ],
    ]
