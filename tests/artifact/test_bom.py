"""The bill of materials validates against the schema of CycloneDX, and says what the sidecar says."""

import json
from dataclasses import replace

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from support.faults.calling import fine
from support.tiny import exported

from dpt_deploy.artifact.bom import bill_of_materials
from dpt_deploy.artifact.store import Artifact

pytestmark = pytest.mark.needs("torch", "onnx", "cyclonedx")
CASES = {"fp32": ("tiny-vit", "fp32"), "16 bits": ("tiny-vit", "fp16"), "segmentation": ("tiny-seg", "fp32")}


def complaints(document):
    """What the schema of CycloneDX 1.6 objects to; None if nothing."""
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))


def entry_of(document, kind):
    (entry,) = (entry for entry in document["components"] if entry["type"] == kind)
    return entry


@pytest.mark.parametrize(("name", "precision"), CASES.values(), ids=CASES)
def test_it_validates_against_the_schema(name, precision):
    assert complaints(bill_of_materials(exported(name, precision=precision))) is None


def test_a_document_against_the_schema_is_noticed():
    document = bill_of_materials(exported("tiny-vit"))
    document["components"][0]["hashes"][0]["content"] = "short"
    assert complaints(document) is not None


def test_it_lists_every_file_with_its_hash():
    artifact = exported("tiny-vit")
    files = {entry["name"]: entry for entry in bill_of_materials(artifact)["components"] if entry["type"] == "file"}
    assert {name: entry["hashes"][0]["content"] for name, entry in files.items()} == {
        payload.name: payload.sha256 for payload in artifact.sidecar.payloads
    }


def test_it_names_task_weights_and_measured_parity():
    artifact = exported("tiny-vit")
    document = bill_of_materials(artifact)
    card = document["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["task"] == "depth"
    assert card["quantitativeAnalysis"]["performanceMetrics"]
    assert "it has learned nothing" in json.dumps(document)


def test_without_a_parity_no_metric_is_claimed():
    artifact = exported("tiny-vit")
    bare = Artifact(artifact.path, replace(artifact.sidecar, parity=None))
    document = bill_of_materials(bare)
    assert "quantitativeAnalysis" not in document["metadata"]["component"]["modelCard"]
    assert complaints(document) is None


def test_a_licence_is_named_for_model_and_weights():
    artifact = exported("tiny-vit")
    weights = replace(artifact.sidecar.weights, kind="file", path="w.pt", sha256="0" * 64, licence="MIT", commercial="")
    document = bill_of_materials(Artifact(artifact.path, replace(artifact.sidecar, weights=weights)))
    assert complaints(document) is None
    assert "properties" not in entry_of(document, "data")
    assert document["metadata"]["component"]["licenses"] == [{"license": {"name": "MIT"}}]


def test_commercial_use_is_stated_with_its_reason():
    artifact = exported("tiny-vit")
    weights = replace(artifact.sidecar.weights, commercial="unclear", training_data="mixed data sets")
    document = bill_of_materials(Artifact(artifact.path, replace(artifact.sidecar, weights=weights)))
    assert complaints(document) is None
    assert [entry["value"] for entry in entry_of(document, "data")["properties"]] == ["unclear", "mixed data sets"]


def test_the_command_prints_the_document_and_two_runs_print_the_same(capsys):
    path = exported("tiny-vit").path
    first, second = (fine(capsys, "inspect", path, "--bom") for _ in range(2))
    assert first == second
    assert complaints(json.loads(first)) is None
