"""``dpt-deploy attack``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from dpt_deploy.artifact.commit import FileSet, commit_files, staged_files
from dpt_deploy.cli.robustness.corruptions import print_document
from dpt_deploy.cli.shared.options import (
    PATH,
    clusterings,
    json_option,
    names,
    precisions_option,
    runtimes_option,
    size,
    tokens_options,
)
from dpt_deploy.cli.shared.output import say
from dpt_deploy.core.precision import FP32
from dpt_deploy.core.spec import ModelTask


@click.command()
@click.option(
    "--backbone",
    "model",
    default="tiny",
    show_default=True,
    help="Name of a network, recipe (.toml) or exported model (.onnx): the one to test.",
)
@click.option("--weights", metavar="FILE|NAME|random", help="Weights to use (default: the published ones).")
@click.option(
    "--task",
    type=click.Choice(get_args(ModelTask)),
    help="Task to attack of a network for both.  [default: depth; else the network's only one]",
)
@click.option(
    "--method",
    "methods",
    default="fgsm,pgd,mi-fgsm",
    show_default=True,
    callback=names,
    help="One or more of fgsm, pgd, mi-fgsm, separated by commas.",
)
@click.option(
    "--eps",
    "strengths",
    default="2/255,8/255",
    show_default=True,
    help="Largest change of a value, 0 to 64/255; several separated by commas.",
)
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Steps of pgd and mi-fgsm.")
@click.option("--random-start", is_flag=True, help="Let pgd start at a random point within the bound.")
@click.option(
    "--target",
    metavar="flip|CLASS",
    help="Steer towards a wrong answer: the mirrored depth, or the number of a class. Default: raise the error.",
)
@precisions_option(f"{FP32},fp16,int8-cpu", before="Files to measure on the attacked images: one")
@tokens_options("Measure files with fewer tokens, too: one or more, separated by commas.", "LAYER:HxW|LAYER:N%,…")
@runtimes_option
@click.option("--res", "size", metavar="SIZE", callback=size, help="Network size.  [default: the training size]")
@click.option(
    "--scenes", type=click.IntRange(2), default=16, show_default=True, help="Number of rendered scenes to attack."
)
@click.option("--data", metavar="NAME:DIR", help="Attack the images of this data set instead.")
@click.option("--limit", type=click.IntRange(2), metavar="N", help="Use the first N images only.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of scenes, noise and starts.")
@click.option(
    "--save", is_flag=True, help="Also write the images attacked in this run, as PNG files in the folder images."
)
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw the figure and write the page.")
@click.option("-o", "--out", type=PATH, default="out/attack", show_default=True, help="Folder to write to.")
@json_option
def command(out: Path, save: bool, plot: bool, as_json: bool, strengths: str, **options: Any) -> None:
    """Test a model of your own with attacked images, and the files that are deployed.

    The images are changed by a few levels of brightness so that the error of the network in PyTorch rises; its weights
    are needed for that. Then the exported files in each precision are scored on the same images, next to noise of equal
    size. The results are written to attack.json, attack.csv, attack.svg, attack.png and attack.html. The exit code is 5
    if the attack does no more than that noise.

    \b
    dpt-deploy attack                                    # offline: the model that ships with the package
    dpt-deploy attack --method pgd --eps 1/255,4/255 --steps 20 --precision fp32,int8-cpu
    dpt-deploy attack --target flip --save -o out/flip
    dpt-deploy attack --backbone tiny-both --task segmentation -o out/labels
    dpt-deploy attack --backbone tiny-vit --precision fp32,int8-cpu --tokens 2:16x16,2:30%
    """
    from dpt_deploy.jobs.attack import strength
    from dpt_deploy.jobs.attack.request import AttackRequest
    from dpt_deploy.report.robustness import numbers

    fewer = clusterings(options.pop("tokens"), options.pop("reconstruction"))
    asked = AttackRequest(levels=strength.parse_strengths(strengths), approximations=fewer, **options)
    from dpt_deploy.jobs.attack import attack

    if plot:
        from dpt_deploy.report.robustness import attack_files  # fails early without matplotlib
    setup = attack.prepare_attack(asked)
    study, models = attack.run_attack(setup, out, save=save)
    document = study.to_dict()
    with staged_files(out, "attack") as stage:
        numbers.write_numbers(document, stage / attack.RECORD)
        if plot:
            say("drawing")
            attack_files.write_pictures(document, setup, models, stage)
        commit_files(FileSet(stage, [*(attack_files.PICTURES if plot else ()), *numbers.names(attack.RECORD)]))
    shown = attack.RECORD.replace(".json", ".html") if plot else attack.RECORD
    print_document(document, out / shown, as_json=as_json)
