"""Sidecars of older formats, brought to the present one.

Format 1 had one output. Its task followed from the model and from ``output_kind``, and its tolerance and type loss
stood at the top. Format 2 has any number of outputs, each with its own task, tolerance and type loss; every parity case
names its output.
"""

from __future__ import annotations

from typing import Any

FORMAT = 2
_LATER = ("engine", "approximation")  # sidecars from before there were any


def upgraded(data: Any) -> dict[str, Any]:
    """The contents of a sidecar in the present format.

    Raises:
        ValueError: it is of a format that this program cannot read, or lacks what an upgrade needs.
    """
    found = data.get("format") if isinstance(data, dict) else None
    if found == FORMAT:
        return {**dict.fromkeys(_LATER), **data}
    if found != 1:
        raise ValueError(f"its format is {found!r}; this program reads 1 to {FORMAT}")
    old = {**dict.fromkeys(_LATER), **data}
    for key in ("outputs", "model", "output_kind", "tolerance"):
        if key not in old:
            raise ValueError(f"{key} is missing")
    if not isinstance(old["outputs"], list) or len(old["outputs"]) != 1 or not isinstance(old["outputs"][0], dict):
        raise ValueError("outputs is not a list of one; format 1 has one output")
    tolerance, lost = old.pop("tolerance"), old.pop("type_loss", None)
    output = {**old["outputs"][0], "task": _task(old["model"], old.pop("output_kind"))}
    name = output.get("name")
    parity = _parity(old["parity"], name) if isinstance(old.get("parity"), dict) else old.get("parity")
    return {
        **old,
        "outputs": [{**output, "tolerance": tolerance, "type_loss": lost}],
        "parity": parity,
        "format": FORMAT,
    }


def _task(model: Any, output_kind: Any) -> str:
    """The task of format 1's only output."""
    if not isinstance(model, dict) or output_kind not in ("scores", "labels"):
        raise ValueError(f"output_kind is {output_kind!r}; expected scores or labels")
    if model.get("task") == "depth":
        return "metric-depth" if model.get("metric") else "depth"
    return str(output_kind)


def _parity(parity: dict[str, Any], name: Any) -> dict[str, Any]:
    cases = parity.get("cases")
    if isinstance(cases, list):
        cases = [{**case, "output": name} if isinstance(case, dict) else case for case in cases]
    return {**parity, "tolerances": {name: parity.get("tolerance")}, "cases": cases}
