"""``dpt-deploy batch``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli.shared.archives import archive_options, show_summary
from dpt_deploy.cli.shared.options import artifact_argument, json_option
from dpt_deploy.cli.shared.prediction import prediction_options


@click.command()
@artifact_argument
@click.argument("source")
@click.option(
    "-o", "--out", type=click.Path(), help="Output folder, which all machines see.  [default: next to a folder]"
)
@click.option(
    "--ray",
    required=True,
    metavar="ADDRESS",
    help="local: start Ray on this machine; auto, or HOST:PORT of a head: a cluster that runs.",
)
@click.option("--workers", type=click.IntRange(1), help="Largest number of workers.  [default: what the cluster holds]")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="Processors of a worker.")
@click.option("--gpus", type=click.FloatRange(0), help="GPUs of a worker.  [default: 1 for an engine, else 0]")
@click.option(
    "--block",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Images of one task: what is repeated if a worker is killed.",
)
@prediction_options
@archive_options
@json_option
def command(artifact: Path, as_json: bool, **options: Any) -> None:
    """Apply an exported model to an archive of images, on the machines of a Ray cluster.

    SOURCE is a folder that all machines see, or a URL such as s3://bucket/photos. The results are those of
    `dpt-deploy run` with the same options. On one machine `run` is faster: Ray pays off with several machines or GPUs.

    \b
    dpt-deploy batch out/hybrid-fp32.onnx archive/ -o depth/ --recursive --ray auto
    dpt-deploy batch hybrid.plan s3://bucket/photos -o /mnt/depth --recursive --resume --ray auto --gpus 1
    """
    from dpt_deploy.core.optional import load_attribute

    run_batch = load_attribute("dpt_deploy.jobs.batch.batch:run_batch", which="ray", purpose="running on a cluster")
    show_summary(run_batch(artifact, **options), as_json=as_json)
