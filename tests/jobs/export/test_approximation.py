"""Token clustering through ``export``: named, recorded, verified, held to a budget, typed, run from C++."""

import numpy as np
import pytest
from support.faults.calling import complaint, fine
from support.native import cpp_difference
from support.tiny import quick_accuracy, tiny_path
from support.traces import traces_kept

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli.shared.options import MERGING, RECONSTRUCTIONS, clusterings
from dpt_deploy.model.rewrites.registry import REWRITES

pytestmark = pytest.mark.needs("torch", "onnxruntime")
LAYER_AND_GRID = {"layer": 1, "height": 4, "width": 4}


def export(capsys, folder, *more, name="tiny-vit", tokens="1:4x4"):
    """The names of the files that an export with random weights writes; random weights may lose anything."""
    argv = ["export", "--backbone", tiny_path(name), "--weights", "random", "--tokens", tokens, "--budget", "0.9"]
    with quick_accuracy((1.5, 1.4, 1.6)), traces_kept():
        fine(capsys, *argv, "-o", folder, *more)
    return sorted(path.name for path in folder.glob("*.onnx"))


def test_a_clustered_network_is_named_recorded_shown_and_verified(tmp_path, capsys):
    assert export(capsys, tmp_path) == ["tiny-vit-fp32-tokens-hard-1-4x4.onnx"]
    artifact = open_artifact(next(tmp_path.glob("*.onnx")))
    record = artifact.sidecar.approximation
    assert (record.name, record.parameters, record.limit) == ("tokens-hard", LAYER_AND_GRID, 0.9)
    assert 0.0 < record.accuracy.change < 0.9
    shown = fine(capsys, "inspect", artifact.path)
    assert "tokens-hard, layer 1, height 4, width 4" in shown
    fine(capsys, "verify", artifact.path, "--res", "32,96x160,64x256", "--batch", "1,3")  # 32 has 2x2 tokens


def test_another_encoder_and_the_other_reconstruction(tmp_path, capsys):
    more = ("--reconstruction", "knn", "--precision", "fp16", "--static", "56x84")
    (file,) = export(capsys, tmp_path, *more, name="tiny-dinov2", tokens="0:4x3")
    assert file == "tiny-dinov2-fp16-tokens-knn-0-4x3-56x84.onnx"
    assert open_artifact(tmp_path / file).sidecar.parity.verified


def test_the_clustering_stays_fp32_in_16_bits(tmp_path, capsys):
    (file,) = export(capsys, tmp_path, "--precision", "fp16", "--res", "64x96")
    sidecar = open_artifact(tmp_path / file).sidecar
    assert sidecar.parity.verified
    inside = [name for name in sidecar.islands if name.startswith("encoder.fewer.reduce/")]
    assert "encoder.fewer.reduce/Softmax" in inside
    assert len([name for name in inside if "/MatMul" in name]) >= 11
    assert not [name for name in sidecar.islands if name.startswith("encoder.fewer.restore")]


def test_one_over_the_budget_is_refused(tmp_path, capsys):
    argv = ["export", "--backbone", tiny_path("tiny-vit"), "--weights", "random", "--tokens", "1:4x4"]
    with quick_accuracy(), traces_kept():
        said = complaint(capsys, 5, *argv, "-o", tmp_path)
    assert "tokens-hard changes the result by" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny-vit", ("--tokens", "4x4"), "'4x4' is not LAYER:HxW"),
        ("tiny-vit", ("--tokens", "1:4x4,2:2x2"), "more than one approximation"),
        ("tiny-vit", ("--tokens", "1:4x4", "--approximate", "tokens-knn=1,4,4"), "more than one approximation"),
        ("tiny-vit", ("--tokens", "3:4x4"), "behind block 3; expected 0 to 2"),
        ("tiny-vit", ("--tokens", "1:7x4"), "7x4 clusters are more than the 6x6 tokens"),
        ("tiny-vit", ("--tokens", "1:4x4", "--static", "32x64"), "4x4 clusters are more than the 2x4 tokens"),
        ("tiny-vit", ("--approximate", "tokens-hard=1,4"), "has 2 numbers; expected layer, height, width"),
        ("tiny-conv", ("--tokens", "1:4x4"), "has no tokens that could be clustered"),
        ("tiny-hybrid", ("--tokens", "1:4x4"), "behind block 1"),
        ("tiny-vit", ("--reconstruction", "knn"), "--reconstruction is for clusters"),
        ("tiny-vit", ("--reconstruction", "knn", "--tokens", "1:30%"), "--reconstruction is for clusters"),
        ("tiny-vit", ("--tokens", "1:51%"), "51 percent of the tokens to merge; expected a whole number from 1 to 50"),
        ("tiny-vit", ("--tokens", "3:30%"), "behind block 3; expected 0 to 2"),
        ("tiny-vit", ("--tokens", "1:30"), "'1:30' is not LAYER:HxW or LAYER:N%"),
        ("tiny-conv", ("--tokens", "1:30%"), "has no tokens that could be clustered or merged"),
    ],
)
def test_mistakes(name, options, message, tmp_path, capsys):
    said = complaint(capsys, 2, "export", "--backbone", tiny_path(name), *options, "-o", tmp_path / "out")
    assert message in said
    assert not (tmp_path / "out").exists()


def test_each_reconstruction_of_the_command_line_is_a_rewrite():
    named = {f"tokens-{each}" for each in RECONSTRUCTIONS}
    assert {*named, MERGING} == {name for name in REWRITES if name.startswith("tokens")}
    assert clusterings(((1, 4, 4), (2, 30)), "knn") == (("tokens-knn", (1, 4, 4)), ("tokens-merge", (2, 30)))


def test_merged_tokens_are_recorded_stay_fp32_in_16_bits_and_are_verified(tmp_path, capsys):
    more = ("--precision", "fp16", "--static", "64x96")
    (file,) = export(capsys, tmp_path, *more, name="tiny-distilled", tokens="1:30%")
    assert file == "tiny-distilled-fp16-tokens-merge-1-30-64x96.onnx"
    sidecar = open_artifact(tmp_path / file).sidecar
    assert (sidecar.approximation.name, sidecar.parity.verified) == ("tokens-merge", True)
    assert sidecar.approximation.parameters == {"layer": 1, "percent": 30}
    inside = [name for name in sidecar.islands if name.startswith("encoder.fewer.reduce/")]
    assert len([name for name in inside if "/MatMul" in name]) == 2
    assert not [name for name in sidecar.islands if name.startswith("encoder.fewer.restore")]


@pytest.mark.needs("compiler")
def test_cpp_runs_it(tmp_path, capsys):
    (file,) = export(capsys, tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert cpp_difference(tmp_path / file, image) < 1e-6
