"""Training loop: Adam or SGD over a schedule, resumable bit for bit, with a record of the loss (DPT §4.1 and §4.2)."""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dpt_deploy.core.disk.private import check_own_file, open_own_file
from dpt_deploy.core.errors import BadFileError, DptError, ParityError, ResourceError
from dpt_deploy.core.files import atomic_write_bytes, write_errors
from dpt_deploy.core.progress import progress
from dpt_deploy.jobs.train.config import Schedule

Batches = Callable[[int], tuple[Tensor, Tensor]]  # step to images and targets

_CHECKPOINT_EVERY_S = 60.0
_RECORD_EVERY = 25  # steps per point of the loss curve


@dataclass
class History:
    """Loss curve (step, mean loss since the previous point) and training time in seconds, over all runs."""

    curve: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


def fit(
    network: nn.Module,
    encoder: Iterable[nn.Parameter],
    batches: Batches,
    objective: nn.Module,
    schedule: Schedule,
    *,
    checkpoint: Path,
    identity: dict[str, Any],
    seed: int = 0,
    device: str = "cpu",
) -> History:
    """Train ``network`` in place; continue from ``checkpoint`` if it holds the same training (``identity``).

    The checkpoint is written every minute and at the end. On one CPU, an interrupted training gives the same bits as an
    uninterrupted one: batches and dropout depend on ``seed`` and step only.

    Args:
        network: the network to train, on any device; it is left on ``device``.
        encoder: its parameters that learn at ``encoder_rate``.
        batches: step to images (B, 3, H, W) and targets, on the CPU.
        objective: a module that returns the loss of (network, images, targets); its parameters are trained, too.
        schedule: steps and learning rates.
        checkpoint: the file to continue from and to write.
        identity: the training as plain data; a checkpoint with another identity is refused.
        seed: of randomness in the network, such as dropout.
        device: the device to train on.

    Raises:
        BadFileError: the checkpoint is damaged or belongs to another training.
        ParityError: the loss is not finite.
        ResourceError: the checkpoint cannot be written, or memory runs out.
    """
    for module in (network, objective):
        module.to(device=device, memory_format=_memory_format(network))  # type: ignore[call-overload]
    optimizer = _optimizer([*network.parameters(), *objective.parameters()], encoder, schedule)
    state = _State(network, objective, optimizer, checkpoint, identity)
    step = state.resume()
    begun, saved, losses = time.monotonic(), time.monotonic(), []
    with progress("training", schedule.steps, unit="steps") as steps:
        while step < schedule.steps:
            with _memory_errors(), _random_state(seed, step, device):
                loss = _step(network, optimizer, batches(step), objective, schedule, step, device)
            losses.append(loss)
            step += 1
            if step % _RECORD_EVERY == 0 or step == schedule.steps:
                state.history.curve.append((step, sum(losses) / len(losses)))
                losses = []
            steps.update(done=step, item=f"loss {loss:.3f}")
            # a checkpoint never splits a point of the curve
            due = time.monotonic() - saved > _CHECKPOINT_EVERY_S and not losses
            if due or step == schedule.steps:
                state.history.seconds += time.monotonic() - begun
                begun = saved = time.monotonic()
                state.save(step)
    return state.history


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    objective: nn.Module,
    schedule: Schedule,
    step: int,
    device: str,
) -> float:
    """Take one step in place; return its loss."""
    images, targets = (tensor.to(device) for tensor in batch)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * schedule.factor(step)
    kind = torch.device(device).type
    with _attention_of(kind), torch.autocast(kind, torch.bfloat16, enabled=schedule.precision == "bfloat16"):
        loss = objective(network, images.contiguous(memory_format=_memory_format(network)), targets)
    value = float(loss.item())
    if not math.isfinite(value):
        raise ParityError(f"the loss is {value} at step {step}", hint="lower the rates, or lengthen warm_up")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([*network.parameters(), *objective.parameters()], schedule.clip)
    optimizer.step()
    return value


def _memory_format(network: nn.Module) -> torch.memory_format:
    """Channels last is faster, except with group norm, whose backward pass on a CPU is then several times slower."""
    grouped = any(isinstance(module, nn.GroupNorm) for module in network.modules())
    return torch.contiguous_format if grouped else torch.channels_last


def _attention_of(kind: str) -> AbstractContextManager[None]:
    """Use plain products on a CPU: at a few hundred tokens, the backward pass of the fused kernel is slower."""
    return sdpa_kernel(SDPBackend.MATH) if kind == "cpu" else nullcontext()


@contextmanager
def _random_state(seed: int, step: int, device: str) -> Iterator[None]:
    """Seed the random numbers inside the block by the step; the state outside is unchanged."""
    used = torch.device(device)
    with torch.random.fork_rng([used] if used.type == "cuda" else []):
        torch.manual_seed(int(np.random.default_rng([seed, 13, step]).integers(2**63)))
        yield


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn running out of memory inside the block into a :class:`ResourceError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as exc:  # the CPU's allocator has no error class of its own
        if isinstance(exc, RuntimeError) and "allocate" not in str(exc):
            raise
        raise ResourceError("out of memory", hint="set a smaller schedule.batch") from exc


def _optimizer(
    trained: Iterable[nn.Parameter], encoder: Iterable[nn.Parameter], schedule: Schedule
) -> torch.optim.Optimizer:
    """Make the optimiser, with a parameter group for each rate and decay."""
    first = {id(parameter) for parameter in encoder}
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in trained:
        rate = schedule.encoder_rate if id(parameter) in first else schedule.decoder_rate
        parts.setdefault((rate, _decay_of(parameter, schedule)), []).append(parameter)
    groups = [
        {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
        for (rate, decay), parameters in parts.items()
    ]
    return torch.optim.SGD(groups, momentum=0.9) if schedule.optimizer == "sgd" else torch.optim.AdamW(groups)


def _decay_of(parameter: nn.Parameter, schedule: Schedule) -> float:
    """Decay matrices and convolutions, but not norms, biases, positions and readout tokens (as in timm's recipes)."""
    return schedule.weight_decay if parameter.ndim in (2, 4) else 0.0


@dataclass
class _State:
    """State of a training: weights, optimiser, history. Batches and random numbers follow from the step."""

    network: nn.Module
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    path: Path
    identity: dict[str, Any]
    history: History = field(default_factory=History)

    def resume(self) -> int:
        """Load the checkpoint if it exists; return the number of steps done."""
        try:
            stream = self._open()
            if stream is None:
                return 0
            with stream:
                saved = torch.load(stream, weights_only=True, map_location="cpu")
            self._check_identity(saved["identity"])
            history = History([(int(n), float(loss)) for n, loss in saved["curve"]], float(saved["seconds"]))
            self.network.load_state_dict(saved["network"])
            self.objective.load_state_dict(saved.get("objective", {}))  # missing for depth and in older checkpoints
            self.optimizer.load_state_dict(saved["optimizer"])
            step = int(saved["step"])
        except DptError:
            raise
        except Exception as exc:  # torch.load has no closed set of errors
            raise BadFileError(
                f"{self.path} is not a training checkpoint: {exc}", hint="remove it to start again"
            ) from exc
        self.history = history
        return step

    def _open(self) -> IO[bytes] | None:
        """Open the checkpoint; None if there is none. Its name can be foreseen, so it must be the user's own."""
        try:
            return os.fdopen(open_own_file(self.path, os.O_RDONLY), "rb")
        except FileNotFoundError:
            return None

    def _check_identity(self, found: dict[str, Any]) -> None:
        if found != self.identity:
            keys = sorted(key for key in {*found, *self.identity} if found.get(key) != self.identity.get(key))
            raise BadFileError(
                f"{self.path} belongs to another training (different: {', '.join(keys)})",
                hint="remove it to start again, or write to another folder",
            )

    def save(self, step: int) -> None:
        """Write the checkpoint atomically."""
        stream = io.BytesIO()  # torch.save gives no reason if a file cannot be written
        state = {
            "identity": self.identity,
            "step": step,
            "curve": self.history.curve,
            "seconds": self.history.seconds,
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, stream)
        with write_errors(self.path):
            check_own_file(self.path)
        atomic_write_bytes(self.path, stream.getvalue(), mode=0o644)
