"""``dpt-deploy refit``."""

from __future__ import annotations

from pathlib import Path

import click

from dpt_deploy.cli._engine_tables import engine_rows, next_step
from dpt_deploy.cli._options import PATH, json_option
from dpt_deploy.cli._output import print_facts, print_json, say


@click.command()
@click.argument("plan", type=PATH)
@click.argument("model", type=PATH)
@click.option("-o", "--out", type=PATH, help="Folder of the new plan.  [default: that of PLAN]")
@json_option
def command(plan: Path, model: Path, out: Path | None, as_json: bool) -> None:
    """Put a model's weights into an engine: a fine-tuned checkpoint's, or those that were left out of it.

    \b
    dpt-deploy refit out/base-fp16.plan tuned/base-garden-fp16.onnx
    dpt-deploy refit out/base-fp16.plan out/base-fp16.onnx -o engines/

    PLAN was built with --refit or --strip-weights, MODEL is of the same graph, and the GPU is the one that will run
    it. The new plan is MODEL-refitted.plan, beside PLAN unless -o says otherwise; PLAN stays. Exit 6 when the plan
    cannot be refitted, when the model is of another graph, or when it changes what the plan cannot be given.
    """
    from dpt_deploy.artifact.store import engine_of
    from dpt_deploy.jobs.build.refit import refit_engine_artifact

    done = refit_engine_artifact(plan, model, out)
    if as_json:
        print_json(done.to_dict())
        return
    rows = [
        ("weights", f"{done.weights} that it takes, {done.changed} other than it was built with"),
        ("refit again", "yes" if done.refittable else f"no: keep {plan.name} for other weights"),
        *engine_rows(engine_of(done.artifact)),
    ]
    print_facts(str(done.artifact.path), rows)
    say(next_step(done.artifact))
    click.echo(str(done.artifact.path))
