"""MiDaS networks on Next-ViT, LeViT and EfficientNet-Lite through the commands: sizes, types, engines and C++."""

import json
from itertools import product

import onnx
import pytest
import skimage.data
from PIL import Image
from support.faults.calling import complaint, fine
from support.faults.precision import enlarge, first_trouble
from support.midas_networks import SIZES
from support.native import cpp_difference
from support.tiny import altered, exported, tampered, tiny_path, typed

from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.jobs.verify.references import compare_with_golden

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")
DRAWS = pytest.mark.needs("matplotlib")

RES = {name: ",".join(str(Size(*size)) for size in sizes) for name, sizes in SIZES.items()}


@pytest.mark.parametrize("name", SIZES)
def test_one_graph_agrees_at_sizes_and_batches_that_were_not_traced(name, tmp_path, capsys):
    artifact = exported(name)
    fine(capsys, "verify", artifact.path, "--res", RES[name], "--batch", "1,3")
    assert all(case.max <= 1e-4 for case in read_sidecar(artifact.path).parity.cases)
    operators = {node.op_type for node in onnx.load(artifact.path).graph.node}
    assert "BatchNormalization" not in operators
    wrong = altered(artifact, tmp_path, "encoder.")
    assert call(["verify", str(wrong.path), "--res", RES[name].split(",")[0], "--batch", "1"]) == 5


TWELVE = """base = "{base}"
[model]
stride = 96
[model.encoder]
window = 12
grid = 48
[image]
height = 192
width = 192
[verify]
res = ["96", "192"]
"""


def test_a_number_of_the_network_that_most_traces_have_as_their_batch_is_no_baked_size(tmp_path, capsys):
    """Windows of 12 cells, as those of Swin-L, add 11 to the side of a map to round it up."""
    recipe = tmp_path / "twelve.toml"
    recipe.write_text(TWELVE.format(base=tiny_path("tiny-swin")), encoding="utf-8")
    fine(capsys, "export", "--backbone", recipe, "--weights", "random", "-o", tmp_path)
    fine(capsys, "verify", tmp_path / "twelve-fp32.onnx", "--res", "96,192x288", "--batch", "1,3")


NEEDS_OPENVINO = pytest.mark.needs("openvino")
TYPED = [
    *product(SIZES, ("fp16", "bf16", "int8", "int8-cpu", "fp8")),
    *(pytest.param(name, "int8-openvino", marks=NEEDS_OPENVINO) for name in ("tiny-levit", "tiny-midas-small")),
]


@pytest.mark.parametrize(("name", "precision"), TYPED)
def test_typed_graphs_agree_and_one_with_other_weights_does_not(name, precision, tmp_path):
    artifact = typed(name, precision)
    assert artifact.sidecar.precision == precision
    assert artifact.sidecar.parity.verified
    assert not compare_with_golden(altered(artifact, tmp_path, "head.")).passed


def test_a_graph_of_one_size_takes_any_batch(capsys):
    sidecar = exported("tiny-levit").sidecar
    assert (sidecar.shapes.static, sidecar.shapes.any_batch) == ((96, 96), True)
    assert sidecar.inputs[0].shape == ("batch", 3, 96, 96)
    fine(capsys, "inspect", exported("tiny-levit").path)


@pytest.mark.parametrize(
    "command",
    [
        ("export", "--backbone", tiny_path("tiny-levit"), "--weights", "random", "--static", "128"),
        ("export", "--backbone", tiny_path("tiny-levit"), "--weights", "random", "--precision", "int8", "--res", "64"),
        ("verify", "MODEL", "--res", "128"),
        ("run", "MODEL", "PHOTO", "--size", "96x128"),
        ("bench", "MODEL", "--res", "128"),
        ("build", "MODEL", "--res", "64..128"),
        pytest.param(
            ("sweep", "--backbone", tiny_path("tiny-levit"), "--weights", "random", "--res", "96,128"), marks=DRAWS
        ),
        pytest.param(("study", "--backbone", tiny_path("tiny-levit"), "--weights", "random"), marks=DRAWS),
    ],
    ids=lambda command: command[0],
)
def test_another_size_is_an_error_that_says_so(command, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    if "PHOTO" in command:
        Image.fromarray(skimage.data.coffee()).save(photo)
    named = {"MODEL": str(exported("tiny-levit").path), "PHOTO": str(photo)}
    out = () if command[0] in ("verify", "bench") else ("-o", str(tmp_path / "out"))
    said = complaint(capsys, 2, *(named.get(part, part) for part in command), *out)
    assert "takes images of 96 pixels only" in said


def test_an_image_is_brought_to_the_one_size(capsys):
    with load(exported("tiny-levit").path) as predictor:
        result = predictor(skimage.data.coffee())
    assert result.network_size == Size(96, 96)
    assert result.depth.shape == (400, 600)


OVERFLOWS = {
    "tiny-nextvit": "encoder.blocks.4.",
    "tiny-levit": "encoder.blocks.3.",
    "tiny-midas-small": "encoder.stages.4.0.",
}


@pytest.mark.parametrize(("name", "part"), OVERFLOWS.items(), ids=OVERFLOWS)
def test_an_overflow_is_named(name, part, tmp_path):
    assert first_trouble(tampered(typed(name, "fp16"), tmp_path, enlarge(part)))[0].startswith(part)


def test_diagnose_names_their_modules(capsys):
    """Of the one network that takes a few seconds."""
    path = exported("tiny-midas-small", precision="fp16").path
    assert call(["diagnose", str(path), "--res", "64x96", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["not_finite"] in (None, "")
    assert found["headroom"]


@pytest.mark.needs("tensorrt_rtx")
@pytest.mark.parametrize("name", SIZES)
def test_the_builder_of_tensorrt_rtx_takes_them(name, tmp_path):
    path, size = exported(name, precision="fp16").path, RES[name].split(",")[0]
    built = build_engine_artifact(path, tmp_path, res=parse_ranges(size), batch=2, library="tensorrt_rtx")
    record = built.artifact.sidecar.engine
    assert record.audit.share("fp16") > 0.5
    assert [str(profile) for profile in record.profiles] == [f"{size} batch 1", f"{size} batch 2"]


@pytest.mark.needs("compiler")
@pytest.mark.parametrize("name", SIZES)
def test_cpp_gives_the_same_depth(name):
    assert cpp_difference(exported(name).path, skimage.data.coffee()) <= 1e-6
