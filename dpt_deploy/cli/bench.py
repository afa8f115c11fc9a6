"""``dpt-deploy bench``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli.shared.bench_tables import print_serving, print_timing
from dpt_deploy.cli.shared.options import PATH, batch_option, json_option, res_option
from dpt_deploy.cli.shared.output import print_json, say
from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.files import check_folder
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.candidates import candidates as all_candidates

_SIZE = Size(384, 384)  # of the networks that take any


def _names(*, gpu: bool) -> str:
    return ", ".join(each.name for each in all_candidates().values() if each.needs_gpu == gpu)


@click.command()
@click.argument("artifact", type=PATH, required=False)
@click.option(
    "--backbone", default="hybrid", show_default=True, help="Network to export, offline, if no ARTIFACT is given."
)
@res_option("Sizes.  [default: 384, or the only size of a static model]")
@batch_option("Batches.  [default: 1]")
@click.option(
    "--runtime",
    "candidates",
    help=f"Candidates, separated by commas: {_names(gpu=False)}. On a GPU also {_names(gpu=True)}: -device is between "
    "arrays on the GPU; trt-frame and trt-frames are full HD frames resized on the GPU, alone and overlapping. Or one "
    "address of a model on a server, grpc://HOST:PORT/MODEL: requests per second of 1 to 8 clients.  "
    "[default: torch,ort; torch,trt for an engine]",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="PyTorch's device (cuda is experimental).  [default: cpu; cuda for an engine]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Time limit for each size and batch.",
)
@click.option("--rounds", type=click.IntRange(3), default=200, show_default=True, help="Maximum runs per candidate.")
@click.option(
    "--memory/--no-memory",
    default=True,
    show_default=True,
    help="Measure the peak memory of each candidate, in a fresh process.",
)
@click.option(
    "--photo", type=PATH, help="Time the steps from this image file to its map.  [default: a photograph of the package]"
)
@click.option("--no-photo", is_flag=True, help="Do not time these steps.")
@click.option(
    "-o", "--out", type=PATH, help="Folder to write the result to; the file is named by model, machine and date."
)
@click.option("--plot", type=PATH, help="File to draw the result to (.svg, .png or .pdf).")
@click.option(
    "--check",
    "baseline",
    type=PATH,
    help="Compare with this recorded result (see --out); exit with 5 if a ratio is worse.",
)
@json_option
def command(artifact: Path | None, out: Path | None, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Time an exported model and compare it with PyTorch.

    Candidates are interleaved in one run, so their ratios hold on a busy machine. Everything that needs a GPU is
    experimental.

    \b
    dpt-deploy bench --res 384,512,768                      # offline: hybrid with random weights
    dpt-deploy bench out/base-fp32.onnx --res 384,768 --runtime torch,hf-ort,ort -o results/ --plot base.svg
    dpt-deploy bench out/base-fp32.onnx --res 384,768 --runtime torch,hf-ort,ort --check results/FILE.json
    dpt-deploy bench out/base-fp16.plan --res 384 --runtime trt,torch,torch-compile,ort       # on its GPU
    dpt-deploy bench out/tiny-fp32.onnx --runtime grpc://localhost:8001/tiny-fp32 -o results/  # a model server
    """
    if "://" in (options["candidates"] or ""):
        bench_server(artifact, out, as_json=as_json, plot=plot, **options)
        return
    from dpt_deploy.report.figures.bench_plot import check_plot, plot_result

    if out:
        check_folder(out)  # before minutes of timing
    if plot:
        check_plot(plot)
    result, worse = _measure(artifact, **options)
    if as_json:
        print_json(result.to_dict())
    else:
        print_timing(f"{result.artifact.path.stem} (weights: {result.artifact.sidecar.weights})", result)
    if out:
        say(f"result written to {result.write(out)}")
    if plot:
        plot_result(result.to_dict(), plot)
        say(f"figure written to {plot}")
    if worse:
        raise ParityError(
            "slower than recorded: " + "; ".join(map(str, worse)),
            hint="find the change that made the exported model slower",
        )


def bench_server(
    artifact: Path | None,
    out: Path | None,
    *,
    candidates: str,
    res: tuple[Size, ...],
    seconds: float,
    as_json: bool,
    plot: Path | None,
    baseline: Path | None,
    **_: Any,
) -> None:
    """Measure a model on a server, and print the result."""
    from dpt_deploy.jobs.bench.served import bench_served

    if artifact is None:
        raise UsageError("a model on a server is compared with its artefact, which is not given", hint="name the file")
    if plot or baseline:
        raise UsageError("--plot and --check do not take a server", hint="leave them out")
    result = bench_served(artifact, candidates, sizes=res, seconds=seconds)
    if as_json:
        print_json(result.to_dict())
    else:
        print_serving(f"{result.address}, {', '.join(result.sizes)}", result.to_dict()["levels"])
    if out:
        say(f"result written to {result.write(out)}")
    if wrong := sum(level.wrong for level in result.levels):
        raise ParityError(f"{wrong} answers were wrong", hint="check the server: dpt-deploy verify ADDRESS")


def _measure(
    artifact: Path | None,
    backbone: str,
    res: tuple[Size, ...],
    batch: tuple[int, ...],
    candidates: str | None,
    photo: Path | None,
    no_photo: bool,
    baseline: Path | None,
    device: str | None,
    **options: Any,
) -> tuple[Any, list[Any]]:
    """Return the result, and the ratios that are worse than the baseline."""
    from dpt_deploy.artifact.store import open_artifact, open_model
    from dpt_deploy.core.recipe import load_recipe
    from dpt_deploy.jobs.bench.bench import BenchRequest, bench_artifact, open_baseline
    from dpt_deploy.jobs.bench.candidates import find_candidate
    from dpt_deploy.jobs.predict.photo import photograph

    engine = artifact is not None and artifact.suffix == ".plan"
    wanted = f"torch,{'trt' if engine else 'ort'}" if candidates is None else candidates
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        find_candidate(name)  # before anything is exported
    recorded = open_baseline(baseline) if baseline else None
    with photograph(photo, leave_out=no_photo) as path:
        if artifact:
            opened = open_artifact(artifact) if engine else open_model(artifact)
            sizes = res or (opened.sidecar.shapes.static_size or _SIZE,)
        elif "trt" in names:
            from dpt_deploy.jobs.bench.cached import cached_engine

            sizes = res or (load_recipe(backbone).model.only_size or _SIZE,)
            opened = cached_engine(backbone, sizes, batch or (1,))
        else:
            from dpt_deploy.jobs.bench.cached import cached_artifact

            sizes = res or (load_recipe(backbone).model.only_size or _SIZE,)
            opened = cached_artifact(backbone, sizes)
        request = BenchRequest(sizes, batch or (1,), tuple(names), device=device or "", photograph=path, **options)
        result = bench_artifact(opened, request, baseline=recorded)
    return result, result.worse_than(recorded) if recorded else []


__all__ = ["command", "print_timing"]
