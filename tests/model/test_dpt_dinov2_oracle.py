"""Depth heads on DINOv2 against transformers with random values, at sizes off the training grid, and planted faults."""

import json
from dataclasses import replace
from unittest import mock

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from support.dinov2 import dpt_on_dinov2, output
from support.huggingface import distance, photograph
from support.tiny import exported, tiny_model, tiny_spec

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model import fusion
from dpt_deploy.model.build import build
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.model.rewrites.exact import deployable

pytestmark = pytest.mark.needs("torch", "transformers", "onnxruntime")

MAX_OF_RANGE = 1e-5
MAX_AFTER_EXPORT = 1e-4
NOTICEABLE = 1e-3
SPEC = replace(tiny_spec("tiny-dpt-dinov2"), fusion_channels=256)  # the class has no other
SIZES = [(2, 70, 70), (1, 84, 98), (3, 70, 98), (1, 28, 42), (1, 154, 56)]  # odd, even and mixed numbers of patches


@pytest.fixture(scope="module")
def oracle():
    return dpt_on_dinov2(SPEC)


@pytest.fixture(scope="module")
def folder(oracle, tmp_path_factory):
    path = tmp_path_factory.mktemp("dpt-dinov2")
    oracle.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ours(folder):
    return load_weights(SPEC, folder)[0]


def restored(theirs, pixels):
    """The oracle's map, of 32 rows for each two of patches, in the image's size as the authors resize it."""
    depth, (height, width) = output(theirs, pixels), pixels.shape[2:]
    assert depth.shape[1:] == (32 * -(-height // 28), 32 * -(-width // 28))
    return F.interpolate(depth[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def gap(theirs, ours, batch, height, width):
    pixels = photograph(batch, height, width)
    with torch.inference_mode():
        return distance(ours(pixels), restored(theirs, pixels))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_folder_agrees_with_transformers(size, oracle, ours):
    assert gap(oracle, ours, *size) <= MAX_OF_RANGE


@pytest.mark.parametrize("size", [(2, 70, 98), (1, 84, 56)], ids=str)
def test_so_does_the_form_that_is_exported(size, oracle, ours):
    assert gap(oracle, deployable(ours), *size) <= MAX_OF_RANGE


def test_the_giant_has_gated_layers(tmp_path):
    spec = replace(SPEC, encoder=replace(SPEC.encoder, feed_forward="swiglu"))
    theirs = dpt_on_dinov2(spec, swiglu=True)
    theirs.save_pretrained(tmp_path)
    assert gap(theirs, load_weights(spec, tmp_path)[0], 1, 56, 70) <= MAX_OF_RANGE


@pytest.mark.parametrize("gated", [False, True])
def test_a_folder_of_ours_loads_in_transformers_and_here(gated, tmp_path):
    encoder = replace(SPEC.encoder, depth=7, feed_forward="swiglu" if gated else "gelu")
    ours = random_model(replace(SPEC, encoder=encoder), seed=1)
    save_huggingface(ours, tmp_path, image=load_recipe("dpt-dinov2-small-nyu").image)
    theirs, loading = transformers.DPTForDepthEstimation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for size in ((1, 70, 70), (2, 56, 98)):
        assert gap(theirs.eval(), ours, *size) <= MAX_OF_RANGE
    again, _ = load_weights(ours.spec, tmp_path)
    assert again.spec == ours.spec
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in ours.state_dict().items())
    photo = torch.full((3, 480, 500), 255, dtype=torch.uint8)
    pixels = transformers.AutoImageProcessor.from_pretrained(tmp_path)(images=photo, return_tensors="pt")
    assert pixels["pixel_values"].shape == (1, 3, 490, 504)  # padded, not resized


def test_a_folder_of_ours_with_a_fault_is_seen(ours, tmp_path):
    save_huggingface(ours, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for key, part in (("query", "key"), ("key", "query")):
        name = "backbone.encoder.layer.1.attention.attention.{}.weight"
        tensors[name.format(key)] = load_file(tmp_path / "model.safetensors")[name.format(part)].clone()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    theirs = transformers.DPTForDepthEstimation.from_pretrained(tmp_path).eval()
    assert gap(theirs, ours, 1, 56, 98) > NOTICEABLE


@pytest.mark.parametrize(
    ("what", "changes", "encoder"),
    [
        ("registers", {}, {"registers": 4}),
        ("norm of the taps", {}, {"tap_norm_eps": 1e-6}),
        ("position rule 'offset'", {}, {"position_rule": "offset"}),
        ("fusion of 16 channels", {"fusion_channels": 16}, {}),
        ("read-out 'ignore'", {"readout": "ignore"}, {}),
    ],
)
def test_what_transformers_cannot_express_is_refused(what, changes, encoder, tmp_path):
    spec = replace(SPEC, encoder=replace(SPEC.encoder, **encoder), **changes)
    with pytest.raises(UsageError, match=what):
        save_huggingface(random_model(spec), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_the_file_says_what_it_is(folder):
    model, match = load_weights(SPEC, folder)
    assert match.family == "Hugging Face DPT on DINOv2"
    assert {key.split(".")[1] for key, _ in match.unused} == {"embeddings", "encoder", "layernorm", "fusion_stage"}
    assert model.spec.encoder.position_rule == "size"
    assert model.spec.output_quantity == "metres"


def test_one_graph_takes_every_size():
    name = "tiny-dpt-dinov2"
    session = onnxruntime.InferenceSession(exported(name).path)
    for size in ((1, 14, 14), (2, 42, 154), (3, 70, 84)):
        pixels = photograph(*size)
        (found,) = session.run(None, {"pixel_values": pixels.numpy()})
        assert distance(torch.from_numpy(found), tiny_model(name)(pixels)) <= MAX_AFTER_EXPORT


@pytest.mark.parametrize("name", ["small", "base", "large", "giant"])
def test_both_data_sets_have_one_network(name):
    nyu, kitti = (load_recipe(f"dpt-dinov2-{name}-{data}").model for data in ("nyu", "kitti"))
    assert (nyu.png_scale, kitti.png_scale) == (1000, 256)
    assert replace(kitti, name=nyu.name, png_scale=nyu.png_scale) == nyu
    assert nyu.reassemble_channels == tuple(nyu.encoder.width * part // 8 for part in (1, 2, 4, 8))
    assert nyu.taps[-1] == nyu.encoder.depth - 1


# --- faults -----------------------------------------------------------------------------------------------------------


def aligned(path, skip, unit, *, path_leads):
    if unit is None or skip is None:
        return path
    return path + unit(F.interpolate(skip, size=path.shape[2:], mode="bilinear", align_corners=path_leads))


def variant(ours, **changes):
    """The same weights in a network that differs in ``changes`` of its encoder, or in its ``taps``."""
    taps = changes.pop("taps", SPEC.taps)
    model = build(replace(ours.spec, taps=taps, encoder=replace(ours.spec.encoder, **changes)))
    model.load_state_dict(ours.state_dict(), assign=True)
    return model


def test_planted_faults_are_seen(oracle, ours):
    size = (1, 70, 42)
    with mock.patch.object(fusion, "with_skip", aligned):
        assert gap(oracle, ours, *size) > NOTICEABLE
    for changes in ({"taps": (3, 4, 5, 6)}, {"position_rule": "offset"}):
        assert gap(oracle, variant(ours, **changes), *size) > NOTICEABLE
    with mock.patch.object(ours.encoder, "norm", torch.nn.LayerNorm(48)):
        assert gap(oracle, ours, *size) > NOTICEABLE
    with mock.patch.object(ours.head, "projection", torch.nn.Identity()):
        assert gap(oracle, ours, *size) > NOTICEABLE
    assert gap(oracle, variant(ours), *size) <= MAX_OF_RANGE  # all faults are gone


def test_a_configuration_of_another_network_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    faults = [
        ({"add_projection": False}, {}, "add_projection = False"),
        ({"use_bias_in_fusion_residual": True}, {}, "use_bias_in_fusion_residual = True"),
        ({"readout_type": "ignore"}, {}, "readout_type = 'ignore'"),
        ({}, {"apply_layernorm": True}, "apply_layernorm = True"),
        ({}, {"out_indices": [4, 5, 6, 7], "out_features": None}, "out_features = "),
    ]
    for top, backbone, message in faults:
        changed = {**config, **top, "backbone_config": {**config["backbone_config"], **backbone}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(BadFileError) as caught:
            load_weights(SPEC, tmp_path)
        assert message in str(caught.value)
