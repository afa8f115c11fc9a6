"""A latency result of round numbers, as ``dpt-deploy bench`` writes it; nothing in it was measured."""

from __future__ import annotations

import copy
from typing import Any

CANDIDATES = {"torch": 2.0, "hf-ort": 1.5, "ort": 1.0}
GFLOP = {"64": 10.0, "96x128": 30.0, "192": 100.0}
_MEMORY = {"peak_bytes": 500_000_000, "load_peak_bytes": 400_000_000, "device_peak_bytes": None, "exact": True}


def row(candidate: str, size: str, batch: int = 1) -> dict[str, Any]:
    time = GFLOP[size] * batch * CANDIDATES[candidate] * 10
    slower = CANDIDATES[candidate]
    return {
        "size": size,
        "batch": batch,
        "contender": candidate,
        "p50_ms": time,
        "interval_ms": [0.9 * time, 1.1 * time],
        "p90_ms": 1.2 * time,
        "p99_ms": 1.3 * time,
        "samples": 40,
        "images_per_second": 1e3 * batch / time,
        "gflop": GFLOP[size] * batch,
        "attention_share": GFLOP[size] / 1000,
        "gflop_per_second": 1e3 * GFLOP[size] * batch / time,
        "share_of_ceiling": 0.5 / slower,
        "times_slower_than_ort": None if candidate == "ort" else [slower, 0.9 * slower, 1.1 * slower],
        "memory": {**_MEMORY, "error": ""},
    }


def case(size: str, batch: int = 1, *, rounds: int = 40) -> dict[str, Any]:
    return {
        "size": size,
        "batch": batch,
        "rounds": rounds,
        "seconds": 60.0,
        "ended_by": "time box",
        "enough_rounds": rounds >= 30,
        "product_gflop_per_second": {"numpy": 200.0},
    }


def result(*, sizes: tuple[str, ...] = tuple(GFLOP), batches: tuple[int, ...] = (1,)) -> dict[str, Any]:
    """All three candidates at ``sizes`` and ``batches``."""
    machine = {"processor": "some cpu", "cores": 2, "gpus": [], "tools": {"torch": "2.99.0", "onnxruntime": "1.99.0"}}
    steps = {"decode": 5.0, "prepare": 3.0, "model": 100.0, "finish": 2.0}
    return copy.deepcopy(
        {
            "kind": "latency",
            "recorded": "2030-01-02T03:04:05+00:00",
            "model": "tiny-fp32",
            "weights": "random, seed 0: it has learned nothing",
            "environment": machine,
            "matrix_ceiling_gflop_per_second": 200.0,
            "cases": [case(size, batch) for size in sizes for batch in batches],
            "rows": [row(name, size, batch) for size in sizes for batch in batches for name in CANDIDATES],
            "photograph": "coffee.jpg",
            "end_to_end_with": "ort",
            "end_to_end_ms": dict.fromkeys(sizes, steps),
        }
    )
