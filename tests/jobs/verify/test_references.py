"""The options of ``verify`` choose one reference, and only PyTorch's need PyTorch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.faults.handmade import NAME, handmade
from support.two_outputs import CONFIDENCE, two_outputs

from dpt_deploy.artifact.store import open_artifact, sidecar_path
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import TASKS
from dpt_deploy.jobs.verify.references import ArtifactReference, GoldenReference, choose_reference

pytestmark = pytest.mark.needs("onnx", "onnxruntime")


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, CONFIDENCE.name, CONFIDENCE)
    return two_outputs(tmp_path)


def test_golden_tensors_are_compared_at_their_own_size(artifact):
    reference = choose_reference(artifact, golden=True)
    assert isinstance(reference, GoldenReference)
    assert reference.cases((), ()) == [(2, Size(64, 96))]
    assert not reference.records
    with pytest.raises(UsageError, match="at their own size"):
        reference.cases((Size(64, 64),), ())


@pytest.mark.parametrize("options", [{"against": Path("x.onnx")}, {"weights": "x.pt"}], ids=["against", "weights"])
def test_golden_excludes_other_references(options, artifact):
    with pytest.raises(UsageError, match="--golden compares the stored tensors"):
        choose_reference(artifact, golden=True, **options)


def test_an_artefact_without_golden_tensors_is_refused(artifact):
    data = json.loads(sidecar_path(artifact.path).read_text())
    data["payloads"], data["golden"] = data["payloads"][:1], ""
    sidecar_path(artifact.path).write_text(json.dumps(data))
    with pytest.raises(BadFileError, match="has no golden tensors"):
        choose_reference(open_artifact(artifact.path), golden=True)


def test_another_artefact_gives_its_outputs_by_name(artifact):
    reference = choose_reference(artifact, against=artifact.path)
    assert isinstance(reference, ArtifactReference)
    with reference:
        found = reference.outputs(np.zeros((1, 64, 96, 3), np.uint8))
    assert sorted(found) == sorted(output.name for output in artifact.sidecar.outputs)


def test_an_artefact_with_other_outputs_is_refused(artifact, tmp_path):
    handmade(tmp_path / "other")
    with pytest.raises(UsageError, match=r"different outputs: .*predicted_confidence \(numbers\); and predicted_depth"):
        choose_reference(artifact, against=tmp_path / "other" / NAME)


def test_a_missing_file_and_two_checkpoints_are_refused(artifact, tmp_path):
    with pytest.raises(BadFileError, match=r"absent.onnx does not exist"):
        choose_reference(artifact, against=tmp_path / "absent.onnx")
    with pytest.raises(UsageError, match="exclude each other"):
        choose_reference(artifact, against=artifact.path, weights="x.pt")


WITHOUT_TORCH = """
import sys
from pathlib import Path
from support.two_outputs import CONFIDENCE
from dpt_deploy.core.task import TASKS
from dpt_deploy.jobs.verify.verify import verify_artifact
TASKS[CONFIDENCE.name] = CONFIDENCE
path = Path(sys.argv[1])
assert verify_artifact(path, golden=True).comparison.passed
assert verify_artifact(path, against=path, batch=[1]).comparison.passed
assert "torch" not in sys.modules
"""


def test_golden_tensors_and_other_artefacts_need_no_pytorch(artifact):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(artifact.path)], check=True, env=environment)
