"""``dpt-deploy refit``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path

import click

from dpt_deploy.cli.shared.engine_tables import engine_rows, next_step
from dpt_deploy.cli.shared.options import PATH, json_option
from dpt_deploy.cli.shared.output import print_facts, print_json, print_path, say


@click.command()
@click.argument("plan", type=PATH)
@click.argument("model", type=PATH)
@click.option("-o", "--out", type=PATH, help="Folder of the new plan.  [default: that of PLAN]")
@json_option
def command(plan: Path, model: Path, out: Path | None, as_json: bool) -> None:
    """Replace the weights of an engine (experimental: not yet run on a GPU).

    \b
    dpt-deploy refit out/base-fp16.plan tuned/base-garden-fp16.onnx
    dpt-deploy refit out/base-fp16.plan out/base-fp16.onnx -o engines/

    Use it for a fine-tuned checkpoint, or to add the weights that `build --strip-weights` left out. PLAN must have been
    built with --refit or --strip-weights, MODEL must have the same graph, and the command must run on the GPU that will
    run the plan. The new plan is MODEL-refitted.plan, next to PLAN unless -o is given; PLAN is kept. The exit code is 6
    if the plan cannot be refitted, the graphs differ, or a changed weight is not refittable.
    """
    from dpt_deploy.artifact.store import engine_of
    from dpt_deploy.jobs.build.refit.refit import refit_engine_artifact

    done = refit_engine_artifact(plan, model, out)
    if as_json:
        print_json(done.to_dict())
        return
    rows = [
        ("weights", f"{done.weights} refittable, {done.changed} changed since the build"),
        ("refit again", "yes" if done.refittable else f"no: keep {plan.name} to refit again"),
        *engine_rows(engine_of(done.artifact)),
    ]
    print_facts(str(done.artifact.path), rows)
    say(next_step(done.artifact))
    print_path(done.artifact.path)
