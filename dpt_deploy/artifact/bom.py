"""Bill of materials of an artefact: CycloneDX 1.6, with a machine-learning model card.

Source: the CycloneDX 1.6 JSON schema, https://cyclonedx.org/docs/1.6/json/. Everything comes from the sidecar, and
nothing is measured. The document depends on the artefact alone, so two runs write the same bytes.
"""

from __future__ import annotations

import uuid
from typing import Any

from dpt_deploy.artifact.records import CaseResult
from dpt_deploy.artifact.sidecar import Payload, Sidecar
from dpt_deploy.artifact.store import Artifact

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_MODEL, _WEIGHTS = "model", "weights"  # references inside the document


def bill_of_materials(artifact: Artifact) -> dict[str, Any]:
    """Return the CycloneDX document of an artefact, ready for JSON."""
    sidecar = artifact.sidecar
    files = [_file(payload) for payload in sidecar.payloads]
    components = [*files, _weights(sidecar), *[_tool(*entry) for entry in sorted(sidecar.tools.items())]]
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": _serial_number(sidecar),
        "version": 1,
        "metadata": {"component": _model(artifact)},
        "components": components,
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [_WEIGHTS, *[entry["bom-ref"] for entry in files]]},
            *[{"ref": entry["bom-ref"]} for entry in components],
        ],
    }


def _serial_number(sidecar: Sidecar) -> str:
    """A UUID that follows from the hashes of the files."""
    return uuid.uuid5(uuid.NAMESPACE_URL, " ".join(payload.sha256 for payload in sidecar.payloads)).urn


def _model(artifact: Artifact) -> dict[str, Any]:
    sidecar = artifact.sidecar
    main = next(payload for payload in sidecar.payloads if payload.name == artifact.path.name)
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": sidecar.model.name,
        "version": sidecar.precision,
        "description": f"Dense Prediction Transformer, {sidecar.kind}, {sidecar.precision}; weights: {sidecar.weights}",
        "hashes": [_hash(main.sha256)],
        **_licences(sidecar),
        "modelCard": {
            "modelParameters": {
                "task": ", ".join(output.task for output in sidecar.outputs),
                "architectureFamily": "Dense Prediction Transformer",
                "modelArchitecture": f"{sidecar.model.name} ({sidecar.model.encoder.kind})",
                "inputs": [{"format": _tensor(each.name, each.dtype, each.shape)} for each in sidecar.inputs],
                "outputs": [{"format": _tensor(each.name, each.dtype, each.shape)} for each in sidecar.outputs],
            },
            **_measurements(sidecar),
        },
        "properties": _properties(sidecar),
    }


def _tensor(name: str, dtype: str, shape: tuple[int | str, ...]) -> str:
    return f"{name} {dtype} ({', '.join(map(str, shape))})"


def _measurements(sidecar: Sidecar) -> dict[str, Any]:
    """The measured parity; nothing for an artefact that was never verified."""
    if sidecar.parity is None:
        return {}
    found = [metric for case in sidecar.parity.cases for metric in _metrics(case)]
    return {"quantitativeAnalysis": {"performanceMetrics": found}} if found else {}


def _metrics(case: CaseResult) -> list[dict[str, str]]:
    place = f"batch {case.batch}, {case.size}{f', {case.output}' if case.output else ''}"
    named = {
        "largest error over the output's range": case.max,
        "mean error over the output's range": case.mean,
        "share of equal labels": case.agreement,
    }
    return [
        {"type": name, "value": f"{value:.3g}", "slice": place} for name, value in named.items() if value is not None
    ]


def _properties(sidecar: Sidecar) -> list[dict[str, str]]:
    image, parity = sidecar.image, sidecar.parity
    facts = {
        "precision": sidecar.precision,
        "opset": str(sidecar.opset),
        "input": sidecar.input_kind,
        "trained-size": f"{image.height}x{image.width}",
        "stride": str(sidecar.shapes.stride),
        "verified": "not recorded" if parity is None else ("yes" if parity.verified else "no"),
    }
    return [{"name": f"dpt-deploy:{name}", "value": value} for name, value in facts.items()]


def _weights(sidecar: Sidecar) -> dict[str, Any]:
    weights = sidecar.weights
    return {
        "type": "data",
        "bom-ref": _WEIGHTS,
        "name": str(weights),
        "description": f"weights, {weights.kind}{f', layout {weights.family}' if weights.family else ''}",
        **({"hashes": [_hash(weights.sha256)]} if weights.sha256 else {}),
        **_licences(sidecar),
        **_use(sidecar),
    }


def _use(sidecar: Sidecar) -> dict[str, Any]:
    """Known terms of commercial use; empty where none are recorded."""
    weights = sidecar.weights
    if not weights.commercial:
        return {}
    return {
        "properties": [
            {"name": "dpt-deploy:commercial-use", "value": weights.commercial},
            {"name": "dpt-deploy:training-data", "value": weights.training_data},
        ]
    }


def _licences(sidecar: Sidecar) -> dict[str, Any]:
    """The licence as it is recorded: a name, since not every text is an SPDX identifier."""
    licence = sidecar.weights.licence
    return {"licenses": [{"license": {"name": licence}}]} if licence else {}


def _file(payload: Payload) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{payload.name}",
        "name": payload.name,
        "hashes": [_hash(payload.sha256)],
        "properties": [{"name": "dpt-deploy:size-bytes", "value": str(payload.size_bytes)}],
    }


def _tool(name: str, version: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"tool:{name}",
        "name": name,
        "version": version,
        "scope": "excluded",  # it made the artefact and is not part of it
    }


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}
