"""DPT heads on DINOv2 as files: every precision, OpenVINO, engines and C++."""

import pytest
import skimage.data
from support.faults.precision import enlarge, first_trouble
from support.native import cpp_difference
from support.tiny import altered, copied, exported, tampered, tiny_spec, typed

from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.verify.verify import verify_artifact

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

NAMES = ("tiny-dinov2", "tiny-dpt-dinov2")
every_network = pytest.mark.parametrize("name", NAMES)
PRECISIONS = (
    "fp16",
    "bf16",
    "fp8",
    "int8",
    "int8-cpu",
    pytest.param("int8-openvino", marks=pytest.mark.needs("openvino")),
)
SIZES = [Size(42, 56), Size(70, 70), Size(98, 28)]


@every_network
@pytest.mark.parametrize("precision", PRECISIONS)
def test_typed_files_keep_their_tolerances_off_the_training_grid(name, precision, tmp_path):
    artifact = copied(typed(name, precision), tmp_path)
    assert artifact.sidecar.parity.verified
    assert verify_artifact(artifact.path, res=SIZES[:1], batch=[2]).comparison.passed


@pytest.mark.parametrize(("name", "precision"), [(NAMES[0], "bf16"), (NAMES[0], "int8"), (NAMES[1], "fp16")])
def test_positions_stay_in_fp32(name, precision):
    kept = typed(name, precision).sidecar.islands
    assert any("position" in node for node in kept)
    assert not [node for node in kept if ".mlp." in node and "/MatMul" in node]


@pytest.mark.needs("openvino")
@every_network
def test_openvino_computes_every_size(name, tmp_path):
    artifact = copied(exported(name), tmp_path)
    verification = verify_artifact(artifact.path, res=SIZES, batch=[1, 3], runtime="openvino")
    assert verification.comparison.passed
    assert all(case.max <= 1e-4 for case in verification.comparison.cases)


@every_network
def test_an_altered_block_is_named(name, tmp_path):
    wrong = altered(exported(name), tmp_path, "encoder.blocks.2.mlp.")
    verification = verify_artifact(wrong.path, res=SIZES[:1], batch=[1])
    assert not verification.comparison.passed
    assert verification.divergence.tensor.startswith("encoder.blocks.2")


def test_an_overflow_is_named(tmp_path):
    part = "encoder.blocks.1.mlp.fc1/"
    assert first_trouble(tampered(typed(NAMES[0], "fp16"), tmp_path, enlarge(part)))[0].startswith(part)


@pytest.mark.needs("tensorrt_rtx")
@pytest.mark.parametrize(("name", "precision"), [(NAMES[0], "int8"), (NAMES[0], "fp16"), (NAMES[1], "fp16")])
def test_it_builds_with_attention_whole(name, precision, tmp_path):
    path = typed(name, precision).path
    sizes = parse_ranges("42x56", stride=14)
    record = build_engine_artifact(path, tmp_path, res=sizes, batch=2, library="tensorrt_rtx").artifact.sidecar.engine
    assert record.audit.attention == {"whole": max(tiny_spec(name).taps) + 1, "decomposable": 0}


@pytest.mark.needs("compiler")
@every_network
def test_cpp_gives_the_same_depth(name):
    assert cpp_difference(exported(name).path, skimage.data.coffee()) <= 1e-6
