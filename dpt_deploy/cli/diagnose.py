"""``dpt-deploy diagnose``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpt_deploy.cli.shared.options import artifact_argument, json_option, size
from dpt_deploy.cli.shared.output import print_facts, print_json, print_table

if TYPE_CHECKING:
    from dpt_deploy.jobs.verify.diagnose import Diagnosis
    from dpt_deploy.jobs.verify.variants import Noise

_SHOWN = 8  # tensors in a table
_NAMED = 12  # nodes in the list to keep


@click.command()
@artifact_argument
@click.option(
    "--res", "size", callback=size, metavar="SIZE", help="Size to run.  [default: the size of the golden tensors]"
)
@click.option(
    "--max",
    "allowed",
    type=click.FloatRange(0, min_open=True),
    metavar="SHARE",
    help="Largest error allowed, as a share of an output's range.  [default: the artefact's tolerance]",
)
@json_option
def command(artifact: Path, as_json: bool, **options: Any) -> None:
    """Find precision problems in a 16- or 8-bit model and the nodes to keep in higher precision.

    The graph, with every tensor rounded to its type or quantised, is compared with the same graph in FP32. This needs
    neither a GPU nor PyTorch. The exit code is 5 if the tolerance (the artefact's own, or --max) is exceeded.

    \b
    dpt-deploy diagnose out/hybrid-fp16.onnx --res 384
    dpt-deploy diagnose out/hybrid-int8.onnx --max 0.05
    """
    from dpt_deploy.core.errors import ParityError
    from dpt_deploy.jobs.verify.diagnose import diagnose_artifact

    found = diagnose_artifact(artifact, **options)
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)
    if not found.passed:
        raise ParityError(_complaint(found), hint=_advice(found))


def _show(found: Diagnosis) -> None:
    precision, error = found.artifact.sidecar.precision, found.error
    rows = [(each.tensor, f"{each.largest:.3g}", f"{each.times:,.1f}") for each in found.headroom[:_SHOWN]]
    print_table(
        f"least headroom at {found.size}", ("tensor", "largest in FP32", f"{precision} maximum / largest"), rows
    )
    if found.noise:
        rows = [(each.tensor, _decibels(each), f"{each.clipped:.2%}") for each in found.noise[:_SHOWN]]
        print_table(f"most noise at {found.size}", ("tensor", "SQNR", "clipped"), rows)
    print_facts(
        str(found.artifact.path),
        [
            ("error", f"max {error.max:.2e}, mean {error.mean:.2e} of range{_of_output(found)}"),
            ("allowed", f"max {error.tolerance.max:.0e}, mean {error.tolerance.mean:.0e}"),
            ("first not finite", found.not_finite or "none"),
            ("first over tolerance", found.diverges_at.tensor if found.diverges_at else "none"),
            (_remedy(found), _kept(found.keep)),
        ],
    )


def _decibels(noise: Noise) -> str:
    return "no noise" if noise.sqnr is None else f"{noise.sqnr:.1f} dB"


def _remedy(found: Diagnosis) -> str:
    return "leave unquantised" if found.artifact.sidecar.quantisation else "keep in FP32"


def _kept(keep: tuple[str, ...] | None) -> str:
    if keep is None:
        return "no set helps: rounding of tensors is not the cause"
    more = f" and {len(keep) - _NAMED} more" if len(keep) > _NAMED else ""
    return ", ".join(keep[:_NAMED]) + more if keep else "none: the tolerance is met"


def _complaint(found: Diagnosis) -> str:
    where = found.not_finite or (found.diverges_at.tensor if found.diverges_at else None)
    reason = f"values are not finite from {where} on" if found.not_finite else f"max {found.error.max:.2e} of range"
    return f"{found.artifact.path.name} does not meet its tolerance at {found.size}: {reason}{_of_output(found)}"


def _of_output(found: Diagnosis) -> str:
    """Name the worst of several outputs."""
    return f" in {found.error.output}" if len(found.artifact.sidecar.outputs) > 1 else ""


def _advice(found: Diagnosis) -> str:
    if found.keep is None:
        return "compare the file with its reference: dpt-deploy verify"
    if found.artifact.sidecar.quantisation:
        return "export it again with --budget: the blocks that harm the result are then left unquantised"
    return "export it again with --calibration and images like these: nodes that overflow then stay FP32"
