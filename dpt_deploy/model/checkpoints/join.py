"""Join a depth network and a segmentation network with the same encoder into one network with both outputs."""

from __future__ import annotations

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.spec import SCORES_TASK
from dpt_deploy.model.build import build
from dpt_deploy.model.decoders import form_of
from dpt_deploy.model.dpt import DPT

ENCODER = "encoder."


def joined(depth: DPT, segmentation: DPT) -> DPT:
    """One network with the encoder of both, the decoder and head of ``depth``, and those of ``segmentation``.

    The tensors are shared, not copied. They are compared bit for bit, since another encoder would give wrong labels
    without an error.

    Raises:
        UsageError: networks of this form have one decoder for both outputs.
        BadFileError: the encoders differ; the message names the first tensor that does.
    """
    if form_of(depth.spec).shared:
        raise UsageError(
            f"{depth.spec.name!r} has one decoder for depth and scores, so two checkpoints cannot be joined",
            hint="export a checkpoint that was trained for both with --task both",
        )
    theirs = segmentation.state_dict()
    state = depth.state_dict()
    encoder = [key for key in state if key.startswith(ENCODER)]
    other = [key for key in theirs if key.startswith(ENCODER)]
    if depth.spec.encoder != segmentation.spec.encoder or depth.spec.taps != segmentation.spec.taps or encoder != other:
        raise BadFileError(
            f"{depth.spec.name!r} and {segmentation.spec.name!r} have encoders of another form",
            hint="join checkpoints of one backbone whose encoder was not trained between them",
        )
    different = [key for key in encoder if not state[key].equal(theirs[key])]
    if different:
        raise BadFileError(
            f"the encoders of the two checkpoints differ in {len(different)} of {len(encoder)} tensors, "
            f"first in {different[0]}",
            hint="only networks whose encoder was frozen, or trained for both, can be joined; export two networks",
        )
    branch = {f"branches.{SCORES_TASK}.{key}": value for key, value in theirs.items() if key not in set(other)}
    model = build(depth.spec.with_scores(segmentation.spec.num_classes))
    model.load_state_dict({**state, **branch}, strict=True, assign=True)
    return model.requires_grad_(False).eval()
