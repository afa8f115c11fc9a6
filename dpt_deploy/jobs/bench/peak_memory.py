"""Peak memory of a candidate: measured in a process that loads it, runs it, and does nothing else.

The gauge is set after the libraries are imported and the input image is made. It covers loading the model (its file or
checkpoint, with conversions and optimisations; for random weights, generating them) and the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.files import resolved
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.bench import candidates
from dpt_deploy.measure.memory import ChildError, Gauge, ask

RUNS = 3  # ONNX Runtime plans its arena in the first run and allocates it whole in the second; then it stays
METHOD = (
    f"peak resident set of a fresh process that loads the model and runs it {RUNS} times, over what was resident with "
    "the libraries imported and the input made; mapped files count; on a GPU what PyTorch's allocator held at most"
)


@dataclass(frozen=True)
class PeakMemory:
    """Bytes over the start: overall peak, peak of loading, peak on the GPU; ``error`` is the reason if there are none.

    ``exact`` is False if the system cannot reset its counter; the numbers are then lower bounds.
    """

    peak_bytes: int | None = None
    load_peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    exact: bool = True
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    name: str, artifact: Artifact, file: Path | None, size: Size, batch: int, device: str = candidates.CPU
) -> PeakMemory:
    """Measure the peak memory of a prepared candidate at one size and batch; a process that dies gives its error."""
    request = {
        "name": name,
        "artifact": str(resolved(artifact.path)),
        "file": str(resolved(file)) if file else None,
        "size": f"{size.height}x{size.width}",
        "batch": batch,
        "device": device,
    }
    try:
        return PeakMemory(**ask(__name__, request))
    except ChildError as exc:
        return PeakMemory(error=str(exc))


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request in the fresh process."""
    name, file = request["name"], request["file"]
    artifact = open_artifact(Path(request["artifact"]), check_hashes=False)  # the parent has checked them
    candidates.import_libraries(name)
    images = candidates.images_of(parse_size(request["size"], stride=1), request["batch"])
    gauge = Gauge()
    module = None if file else candidates.reference_module(artifact)
    path = Path(file) if file else None
    with candidates.enter(name, artifact, path, module, images, request["device"]) as call:
        load_peak = gauge.read()
        for _ in range(RUNS):
            call.run()
            call.synchronize()
        return PeakMemory(gauge.read(), load_peak, _device_peak(), gauge.exact).to_dict()


def _device_peak() -> int | None:
    """Return the peak of PyTorch's allocator on the GPU since the process began; None if it was not used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated()) or None
