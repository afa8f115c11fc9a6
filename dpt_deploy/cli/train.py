"""``dpt-deploy train``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dpt_deploy.cli.shared.options import PATH, json_option
from dpt_deploy.cli.shared.output import print_facts, print_json

if TYPE_CHECKING:
    from dpt_deploy.jobs.train.train import Trained


@click.command()
@click.argument("training", type=PATH)
@click.option("-o", "--out", type=PATH, default=Path("out/train"), show_default=True, help="Folder to write to.")
@click.option(
    "--cache", type=PATH, help="Folder of rendered scenes, shared by trainings.  [default: the output folder]"
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Device to render and train on: cpu; cuda, cuda:1, … (experimental: not yet run on a GPU).",
)
@json_option
def command(training: Path, out: Path, cache: Path | None, device: str, as_json: bool) -> None:
    """Train a model on rendered scenes with the paper's recipe.

    TRAINING is a configuration file (.toml). An interrupted training continues if the same command is run again; at
    most one minute is lost. The result is a safetensors file for `export --weights`, and a JSON record next to it.

    \b
    dpt-deploy train benchmarks/trainings/tiny.toml -o out/train
    dpt-deploy export --backbone tiny --weights out/train/tiny.safetensors -o out/
    """
    from dpt_deploy.jobs.train.config import read_training

    config = read_training(training)
    from dpt_deploy.jobs.train.train import train_model

    trained = train_model(config, out, cache=cache, device=device)
    if as_json:
        print_json({"weights": str(trained.weights), "record": str(trained.record), **trained.to_dict()})
        return
    rows = [
        *_score(trained),
        ["time", f"{trained.history.seconds / 60:.1f} minutes of training"],
        ["record", str(trained.record)],
    ]
    print_facts(f"{config.backbone}: {trained.weights}", rows)


def _score(trained: Trained) -> list[list[str]]:
    from dpt_deploy.jobs.train.validation import DepthScore

    score, scenes = trained.score, f"on {trained.config.validation.scenes} unseen scenes"
    if isinstance(score, DepthScore):
        share = 100 * score.abs_rel / score.plane_abs_rel
        return [
            ["AbsRel", f"{score.abs_rel:.4f} {scenes}"],
            ["best plane", f"{score.plane_abs_rel:.4f}; the model's error is {share:.0f} % of it"],
        ]
    return [
        ["mean IoU", f"{100 * score.mean_iou:.1f} % {scenes}"],
        [
            "pixel accuracy",
            f"{100 * score.pixel_accuracy:.1f} %; the most frequent class covers {100 * score.commonest:.1f} %",
        ],
    ]
