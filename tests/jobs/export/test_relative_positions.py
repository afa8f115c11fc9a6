"""BEiT and Swin V2 as files: against transformers at sizes never traced, in every precision, as engines, in C++."""

from importlib.util import find_spec

import numpy as np
import onnxruntime
import pytest
import torch
from support.backbones import backbone_oracle, backbone_output
from support.faults.precision import enlarge, first_trouble
from support.huggingface import distance, photograph
from support.native import cpp_difference
from support.tiny import altered, copied, quick_accuracy, run_folder, tampered, tiny_recipe
from support.traces import traces_kept

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.verify.verify import verify_artifact

pytestmark = pytest.mark.needs("torch", "transformers", "onnxruntime")

MAX_OF_RANGE = 1e-4
NAMES = ("tiny-beit", "tiny-swin2")
EXPORTED = ("fp32", "fp16", "bf16", "int8", "fp8", *(("int8-openvino",) if find_spec("openvino") else ()))
OPENVINO = pytest.param("int8-openvino", marks=pytest.mark.needs("openvino"))


@pytest.fixture(scope="module", params=NAMES)
def network(request):
    """The oracle, and a function that exports it; one trace serves every precision and every worker of a run."""
    name = request.param
    oracle = backbone_oracle(tiny_recipe(name).model, calm=True)
    with run_folder(f"oracle-{name}") as folder, quick_accuracy(), traces_kept():
        source = folder / f"oracle-{name}"
        if not source.is_dir():
            oracle.save_pretrained(source)
        files = {}
        for precision in EXPORTED:
            options = {} if precision == "fp32" else {"res": (Size(64, 96),)}
            asked = ExportRequest(tiny_recipe(name), weights=source, precision=precision, **options)
            files |= {each.sidecar.precision: each for each in export_model(asked, folder / "oracles").artifacts}
    return oracle, files


@pytest.mark.parametrize("size", [(1, 64, 64), (2, 96, 160), (3, 192, 64), (1, 128, 128)], ids=str)
def test_the_file_agrees_with_transformers(network, size):
    oracle, files = network
    pixels = photograph(*size)
    session = onnxruntime.InferenceSession(files["fp32"].path)
    found = torch.from_numpy(session.run(None, {"pixel_values": pixels.numpy()})[0])
    assert distance(found, backbone_output(oracle, pixels)) <= MAX_OF_RANGE


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int8-cpu", "fp8", OPENVINO])
def test_typed_files_keep_their_tolerances_at_another_size(network, precision, tmp_path):
    artifact = copied(network[1][precision], tmp_path)
    assert verify_artifact(artifact.path, res=[Size(96, 64)], batch=[2]).comparison.passed


def test_scaled_logits_stay_in_fp32(network):
    kept = network[1]["bf16"].sidecar.islands
    softmax = [node for node in kept if "Softmax" in node]
    assert len(softmax) == (6 if "swin2" in network[1]["bf16"].path.name else 0)
    assert all("reach a hundred" in kept[node] for node in softmax)
    assert not [node for node in kept if ".mlp." in node or ".qkv" in node]


def test_an_altered_block_is_named(network, tmp_path):
    sound = network[1]["fp32"]
    block = "encoder.blocks.2" if "beit" in sound.path.name else "encoder.stages.1.blocks.0"
    verification = verify_artifact(altered(sound, tmp_path, f"{block}.mlp.").path, res=[Size(64, 64)], batch=[1])
    assert not verification.comparison.passed
    assert verification.divergence.tensor.startswith(block)


def test_an_overflow_is_named(network, tmp_path):
    sound = network[1]["fp16"]
    part = "encoder.blocks.1.mlp." if "beit" in sound.path.name else "encoder.stages.1.blocks.0.mlp."
    assert first_trouble(tampered(sound, tmp_path, enlarge(part)))[0].startswith(part)


def test_sizes_off_the_step_are_refused(network, tmp_path):
    with pytest.raises(UsageError, match="80x64 is not a multiple of 32"):
        verify_artifact(copied(network[1]["fp32"], tmp_path).path, res=[Size(80, 64)], batch=[1])


@pytest.mark.needs("tensorrt_rtx")
def test_it_builds(network, tmp_path):
    path = network[1]["fp16"].path
    built = build_engine_artifact(path, tmp_path, res=parse_ranges("96x160"), library="tensorrt_rtx").artifact
    attention = built.sidecar.engine.audit.attention
    assert attention["whole"] == (4 if "beit" in path.name else 0)  # windows have their products in the graph


@pytest.mark.needs("compiler")
def test_cpp_gives_the_same_numbers(network):
    image = np.random.default_rng(0).integers(0, 256, (70, 110, 3), np.uint8)
    assert cpp_difference(network[1]["fp32"].path, image) <= 1e-6
