"""A network that goes on with the encoder of one that was trained for another task."""

from __future__ import annotations

from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.initial import fresh_model


def same_encoder_other_task(one: ModelSpec, other: ModelSpec) -> bool:
    """Return True if two networks have one form of encoder, with the same taps, and different tasks."""
    return (one.encoder, one.taps) == (other.encoder, other.taps) and one.task != other.task


def with_task(source: DPT, spec: ModelSpec, *, seed: int) -> tuple[DPT, tuple[str, ...]]:
    """The network of ``spec``, to be trained, with the tensors that it shares with ``source``; and the other keys.

    The others begin as :func:`~dpt_deploy.model.initial.fresh_model` does.
    """
    model, learned = fresh_model(spec, seed=seed), source.state_dict()
    state = model.state_dict()
    kept = {key: value for key, value in learned.items() if key in state and value.shape == state[key].shape}
    model.load_state_dict(state | kept)
    return model, tuple(sorted(state.keys() - kept.keys()))
