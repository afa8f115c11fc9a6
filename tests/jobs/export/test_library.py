"""The zoo as a library: plain modules that stand alone, compile, and export."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.tiny import tiny_model, tiny_path
from torch.export import Dim

import dpt_deploy
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import zoo_names
from dpt_deploy.core.size import Size
from dpt_deploy.model.checkpoints.load import save_native

SHAPES = ((2, 3, 64, 96), (1, 3, 32, 160), (3, 3, 96, 64))


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def model():
    return dpt_deploy.create_model(tiny_path("tiny-vit"), weights="random")


def test_it_is_the_network_with_the_weights_asked_for(model):
    expected = tiny_model("tiny-vit")
    assert isinstance(model, torch.nn.Module)
    assert list(model.state_dict()) == list(expected.state_dict())
    assert torch.equal(model(image(*SHAPES[0])), expected(image(*SHAPES[0])))
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_come_from_a_file_or_by_name_or_fresh(tmp_path, model):
    save_native(tiny_model("tiny-vit", seed=1), tmp_path / "weights.safetensors")
    loaded = dpt_deploy.create_model(tiny_path("tiny-vit"), weights=tmp_path / "weights.safetensors")
    fresh = dpt_deploy.create_model(tiny_path("tiny-vit"))
    firsts = [next(each.parameters()) for each in (loaded, fresh, model)]
    assert torch.equal(firsts[0], next(tiny_model("tiny-vit", seed=1).parameters()))
    assert not torch.equal(firsts[1], firsts[2])
    shipped = [dpt_deploy.create_model("tiny", weights=name).state_dict() for name in ("pretrained", "tiny")]
    assert all(torch.equal(shipped[0][name], shipped[1][name]) for name in shipped[0])


def test_task_classes_readout_and_taps_change_the_network():
    scores = dpt_deploy.create_model(tiny_path("tiny-vit"), task="segmentation", classes=5)
    assert scores(image(*SHAPES[0])).shape == (2, 5, 64, 96)
    changed = dpt_deploy.create_model(tiny_path("tiny-vit"), readout="add", taps=[0, 0, 2, 2])
    assert (changed.spec.readout, changed.spec.taps) == ("add", (0, 0, 2, 2))
    assert len(changed.encoder.blocks) == 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"taps": [0, 1, 2, 9]}, BadFileError, "tap 9 of an encoder of 4 blocks"),
        ({"readout": "mean"}, BadFileError, "'mean'"),
        ({"classes": 5}, UsageError, "needs a segmentation model"),
        ({"weights": "pretrained"}, UsageError, "no depth checkpoint"),
    ],
    ids=str,
)
def test_what_describes_no_network_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        dpt_deploy.create_model(tiny_path("tiny-vit"), **changes)


def test_models_are_listed_by_task():
    assert dpt_deploy.list_models() == zoo_names()
    assert {"base", "hybrid"} <= set(dpt_deploy.list_models("segmentation"))
    assert "hybrid-kitti" in dpt_deploy.list_models("depth")


def test_a_model_without_a_network_for_a_task_is_not_listed(monkeypatch):
    def depth_only(name, **options):
        if name == "tiny" and options["task"] == "segmentation":
            raise UsageError("no such network")

    monkeypatch.setattr("dpt_deploy.core.recipe.load_recipe", depth_only)
    assert set(zoo_names()) - set(dpt_deploy.list_models("segmentation")) == {"tiny"}


# --- no global state --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(model):
    return model, dpt_deploy.create_model(tiny_path("tiny-hybrid"), weights="random")


def alone(network):
    with torch.no_grad():
        return [network(image(*shape)) for shape in SHAPES]


def test_two_instances_interleaved_compute_what_each_computes_alone(pair):
    expected = [alone(network) for network in pair]
    with torch.no_grad():
        found = [[network(image(*shape)) for network in pair] for shape in SHAPES]
    for shape in range(len(SHAPES)):
        assert all(torch.equal(found[shape][each], expected[each][shape]) for each in range(2))


def test_two_threads_compute_what_each_computes_alone(pair):
    expected = [alone(network) for network in pair]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(alone, pair * 3))
    for index, outputs in enumerate(found):
        assert all(torch.equal(a, b) for a, b in zip(outputs, expected[index % 2], strict=True))


# --- compile and export -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "shapes"), [("eager", SHAPES), ("aot_eager", SHAPES[::2])])
def test_it_compiles_whole_and_for_any_size(model, backend, shapes):
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for shape in shapes:  # PyTorch compiles once more for a batch of one
            x, expected = image(*shape), model(image(*shape))
            assert float((compiled(x) - expected).abs().max()) <= 1e-5 * float(expected.max())


def test_it_exports_to_a_program_of_any_size(model):
    # From 64 pixels: below, the smallest map has one row, which the program's guards take for another memory layout.
    height, width = (32 * Dim(name, min=2, max=64) for name in ("rows", "columns"))
    shapes = ({0: Dim("batch", min=1, max=64), 2: height, 3: width},)
    program = torch.export.export(model, (image(*SHAPES[0]),), dynamic_shapes=shapes).module()
    for shape in ((1, 3, 64, 160), (3, 3, 128, 64)):
        with torch.no_grad():
            found, expected = program(image(*shape)), model(image(*shape))
        assert float((found - expected).abs().max()) <= 1e-5 * float(expected.max())


@pytest.mark.needs("onnxruntime")
def test_it_writes_an_onnx_file_and_stays_as_it_is(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = model.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in SHAPES:
        (found,) = session.run(None, {"pixel_values": image(*shape).numpy()})
        expected = model(image(*shape)).detach().numpy()
        assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model(image(*SHAPES[0])), tiny_model("tiny-vit")(image(*SHAPES[0])))


@pytest.mark.needs("onnxruntime")
def test_a_network_with_batch_norms_is_exported_in_evaluation_mode_from_any_mode(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = dpt_deploy.create_model(tiny_path("tiny-seg"), weights="random")
    expected = model(image(1, 3, 64, 96)).detach().numpy()
    path = model.train().export(tmp_path / "model.onnx", static=Size(64, 96))
    assert model.training
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"pixel_values": image(1, 3, 64, 96).numpy()})
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize(
    ("options", "message"), [({"opset": 11}, "opset 11"), ({"static": Size(30, 64)}, "not a multiple of 32")], ids=str
)
def test_an_export_that_cannot_be_is_refused(model, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        model.export(tmp_path / "model.onnx", **options)
    assert list(tmp_path.iterdir()) == []
