"""Depth Anything against transformers with random values, at sizes off the training grid, and planted faults."""

import json
from dataclasses import replace
from unittest import mock

import onnx_ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from support.dinov2 import (
    depth_anything,
    original_keys,
    original_positions,
    output,
    taps_of,
    weights,
    with_registers,
)
from support.huggingface import distance, photograph
from support.tiny import exported, tiny_model, tiny_spec

from dpt_deploy.core.errors import BadFileError, DptError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.graph.axes import axes_of
from dpt_deploy.graph.exporter import ExportInterface, onnx_from_module
from dpt_deploy.graph.precision.fp32_nodes import choose_fp32_nodes
from dpt_deploy.graph.precision.qdq import targets
from dpt_deploy.model import fusion, heads
from dpt_deploy.model.build import build
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.encoders import dinov2
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.model.rewrites.exact import deployable

pytestmark = pytest.mark.needs("torch", "transformers", "onnxruntime")

MAX_OF_RANGE = 1e-5
MAX_AFTER_EXPORT = 1e-4
NOTICEABLE = 1e-3
SPEC = tiny_spec("tiny-dinov2")
METRIC = replace(SPEC, quantity="metres", activation="sigmoid", max_depth=80.0, png_scale=256.0)
THIRD = replace(SPEC, quantity="relative depth", activation="exp", encoder=replace(SPEC.encoder, tap_norm_eps=1e-5))
WITH_SKY = replace(THIRD, joint=("sky",), sky=load_recipe("da3-mono").model.sky)
SIZES = [(2, 70, 70), (1, 56, 98), (3, 140, 84), (1, 350, 28), (2, 28, 42), (1, 70, 84), (1, 518, 126)]


@pytest.fixture(scope="module")
def relative():
    return depth_anything(SPEC)


@pytest.fixture(scope="module")
def folder(relative, tmp_path_factory):
    path = tmp_path_factory.mktemp("relative")
    relative.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def from_folder(folder):
    return load_weights(SPEC, folder)[0]


@pytest.fixture(scope="module")
def file(folder):
    path = folder.with_name("original.pth")
    torch.save(original_keys(load_file(folder / "model.safetensors")), path)
    return path


@pytest.fixture(scope="module")
def from_file(file):
    return load_weights(SPEC, file)[0]


@pytest.fixture(scope="module")
def original(folder):
    return original_positions(type(depth_anything(SPEC)).from_pretrained(folder).eval())


def gap(theirs, ours, batch, height, width):
    pixels = photograph(batch, height, width)
    with torch.inference_mode():
        return distance(ours(pixels), output(theirs, pixels))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_folder_agrees_with_transformers(size, relative, from_folder):
    assert from_folder.spec.encoder.position_rule == "size"
    assert gap(relative, from_folder, *size) <= MAX_OF_RANGE


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_original_file_agrees_with_the_original_positions(size, original, from_file):
    assert from_file.spec.encoder.position_rule == "offset"
    assert gap(original, from_file, *size) <= MAX_OF_RANGE


def test_the_two_kinds_of_file_are_one_network_at_the_training_size_only(from_folder, from_file):
    for size, low, high in (((1, 70, 70), 0, 0), ((1, 56, 98), NOTICEABLE, 1), ((1, 70, 84), NOTICEABLE, 1)):
        pixels = photograph(*size)
        with torch.inference_mode():
            found = distance(from_folder(pixels), from_file(pixels))
        assert low <= found <= high


@pytest.mark.parametrize("size", [(1, 56, 98), (2, 70, 70)], ids=str)
def test_so_does_the_form_that_is_exported(size, relative, original, from_folder, from_file):
    deployed = deployable(from_file)
    assert not any(name.endswith("gamma") for name, _ in deployed.named_parameters())
    assert gap(original, deployed, *size) <= MAX_OF_RANGE
    assert gap(relative, deployable(from_folder), *size) <= MAX_OF_RANGE


def test_metric_depth_is_a_sigmoid_times_the_limit(tmp_path):
    theirs = depth_anything(METRIC, kind="metric", limit=80)
    theirs.save_pretrained(tmp_path)
    ours = load_weights(METRIC, tmp_path)[0]
    for size in ((1, 70, 70), (2, 56, 98)):
        assert gap(theirs, ours, *size) <= MAX_OF_RANGE
    depth = ours(photograph(1, 56, 98))
    assert depth.min() > 0
    assert depth.max() < 80
    assert depth.max() - depth.min() > 20


FOLDERS = {
    "relative": replace(SPEC, encoder=replace(SPEC.encoder, position_rule="size", depth=7)),
    "metric": replace(METRIC, encoder=replace(METRIC.encoder, position_rule="size", depth=7)),
    "gated": replace(SPEC, encoder=replace(SPEC.encoder, feed_forward="swiglu", position_rule="size", depth=7)),
}


@pytest.mark.parametrize("spec", FOLDERS.values(), ids=FOLDERS.keys())
def test_a_folder_of_ours_loads_in_transformers_and_here(spec, tmp_path):
    ours = random_model(spec, seed=1)
    save_huggingface(ours, tmp_path, image=load_recipe("da2-small").image)
    kind = transformers.DepthAnythingForDepthEstimation
    theirs, loading = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for size in ((1, 70, 70), (2, 56, 98)):
        assert gap(theirs.eval(), ours, *size) <= MAX_OF_RANGE
    again, _ = load_weights(spec, tmp_path)
    assert again.spec == spec
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in ours.state_dict().items())
    pixels = transformers.AutoImageProcessor.from_pretrained(tmp_path)(
        images=torch.zeros(3, 300, 500, dtype=torch.uint8), return_tensors="pt"
    )["pixel_values"]
    assert (pixels.shape[2] % 14, pixels.shape[3] % 14, pixels.shape[3] > pixels.shape[2]) == (0, 0, True)


def test_the_library_resizes_positions_of_an_original_file_in_its_own_way(from_file, tmp_path):
    save_huggingface(from_file, tmp_path)
    theirs = transformers.DepthAnythingForDepthEstimation.from_pretrained(tmp_path).eval()
    assert gap(theirs, from_file, 1, 70, 70) <= MAX_OF_RANGE
    assert gap(theirs, from_file, 1, 56, 98) >= NOTICEABLE


@pytest.mark.parametrize(
    ("what", "spec"),
    [("registers", replace(SPEC, encoder=replace(SPEC.encoder, registers=4))), ("activation 'exp'", THIRD)],
)
def test_what_transformers_cannot_express_is_refused(what, spec, tmp_path):
    with pytest.raises(UsageError, match=what):
        save_huggingface(random_model(spec), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_the_giant_has_gated_layers(tmp_path):
    spec = replace(SPEC, encoder=replace(SPEC.encoder, feed_forward="swiglu"))
    theirs = depth_anything(spec, swiglu=True)
    theirs.save_pretrained(tmp_path)
    assert gap(theirs, load_weights(spec, tmp_path)[0], 1, 56, 98) <= MAX_OF_RANGE
    torch.save(original_keys(load_file(tmp_path / "model.safetensors")), tmp_path / "giant.pth")
    ours = load_weights(spec, tmp_path / "giant.pth")[0]
    assert gap(original_positions(theirs), ours, 1, 56, 98) <= MAX_OF_RANGE


_SKY = "model.head.scratch.sky_output_conv2"


@pytest.fixture(scope="module")
def third(file):
    tensors = torch.load(file)
    head = {key.replace("depth_head", "model.head"): value for key, value in tensors.items() if "depth_head" in key}
    found = {
        **{f"model.backbone.{key}": value for key, value in tensors.items() if "pretrained" in key},
        **{key: value for key, value in head.items() if "refinenet4.resConfUnit1" not in key},
    }
    draw = torch.Generator().manual_seed(7)
    for number, shape in ((0, (32, 8, 3, 3)), (2, (1, 32, 1, 1))):
        found[f"{_SKY}.{number}.weight"] = torch.randn(shape, generator=draw)
        found[f"{_SKY}.{number}.bias"] = torch.randn(shape[0], generator=draw)
    found[f"{_SKY}.2.bias"] += 100  # else half of the map is cut off at 0, where every answer is right
    path = file.with_name("third.pth")
    torch.save(found, path)
    return path


def test_depth_anything_3_is_the_exponential_with_a_norm_of_its_own(original, third):
    ours, match = load_weights(THIRD, third)
    assert match.family == "Depth Anything 3"
    assert {reason for key, reason in match.unused if "sky" in key} == {"map of the sky, which was not asked for"}
    pixels, eps = photograph(2, 56, 98), original.backbone.layernorm.eps
    try:
        original.backbone.layernorm.eps = 1e-5
        assert distance(ours(pixels).log(), output(original, pixels)) <= MAX_OF_RANGE
    finally:
        original.backbone.layernorm.eps = eps


def test_the_sky_is_the_head_with_two_other_convolutions(third, folder):
    ours, match = load_weights(WITH_SKY, third)
    assert not [key for key, _ in match.unused if "sky" in key]
    theirs = original_positions(type(depth_anything(SPEC)).from_pretrained(folder).eval())
    theirs.backbone.layernorm.eps = 1e-5
    tensors = torch.load(third)
    for number, conv in ((0, theirs.head.conv2), (2, theirs.head.conv3)):
        conv.load_state_dict({leaf: tensors[f"{_SKY}.{number}.{leaf}"] for leaf in ("weight", "bias")})
    for size in ((2, 56, 98), (1, 70, 70)):
        pixels = photograph(*size)
        depth, sky = ours(pixels)
        assert distance(sky, output(theirs, pixels)) <= MAX_OF_RANGE
        assert torch.equal(depth, load_weights(THIRD, third)[0](pixels))


def test_without_its_tensors_there_is_no_sky(third, tmp_path):
    tensors = torch.load(third)
    torch.save({key: value for key, value in tensors.items() if f"{_SKY}.2" not in key}, tmp_path / "cut.pth")
    with pytest.raises(BadFileError, match=r"2 missing \(model.head.scratch.sky_output_conv2.2.weight"):
        load_weights(WITH_SKY, tmp_path / "cut.pth")


# In millions, of the authors' pages.
PUBLISHED = {"da2-small": 24.8, "da2-base": 97.5, "da2-large": 335.3}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_have_the_published_size(name):
    spec = load_recipe(name).model
    width, channels = spec.encoder.width, spec.fusion_channels
    dead = width + 2 * (9 * channels + 1) * channels  # a token of pre-training, and a unit that never runs
    assert round((parameters(spec) + dead) / 1e6, 1) == PUBLISHED[name]


def test_the_giant_and_the_metric_networks_can_be_built():
    assert 1.2e9 < parameters(load_recipe("da2-giant").model) < 1.4e9
    large = parameters(load_recipe("da2-large").model)
    for name in ("da2-large-indoor", "da2-large-outdoor", "da1-large"):
        assert parameters(load_recipe(name).model) == large
    for name in ("da3-mono", "da3-metric"):
        assert parameters(load_recipe(name, task="depth").model) == large
        assert parameters(load_recipe(name).model) - large == (9 * 128 + 1) * 32 + 33  # the sky


def parameters(spec):
    return sum(parameter.numel() for parameter in build(spec).parameters())


# --- positions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_positions_are_those_of_the_formula(offset):
    grid = torch.randn(5, 5, 3, generator=torch.Generator().manual_seed(0))
    for height, width in ((1, 1), (5, 6), (4, 7), (37, 2), (74, 49)):
        across, down = (torch.from_numpy(weights(n, 5, offset)) for n in (width, height))
        wanted = torch.einsum("ia,jb,abd->ijd", down, across, grid.double()).reshape(1, height * width, 3)
        found = dinov2.resized(grid, height, width, offset)
        assert (found - wanted).abs().max() <= 1e-5 * (wanted.max() - wanted.min())
    assert torch.equal(dinov2.resized(grid, 5, 5, offset), grid.reshape(1, 25, 3))


REGISTERS = replace(SPEC, encoder=replace(SPEC.encoder, registers=4))
_OURS = {"cls_token": "prefix", "register_tokens": "registers", "pos_embed": "position.table"}


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """transformers' encoder with registers, and ours with its tensors under the original's names."""
    theirs, folder = with_registers(REGISTERS), tmp_path_factory.mktemp("registers")
    theirs.save_pretrained(folder)
    on_disk = {f"backbone.{key}": tensor for key, tensor in load_file(folder / "model.safetensors").items()}
    found = {
        key.partition(".")[2].replace("patch_embed.", "embed."): each for key, each in original_keys(on_disk).items()
    }
    ours = dinov2.Dinov2Encoder(REGISTERS.encoder, REGISTERS.taps).eval()
    missing, unexpected = ours.load_state_dict({_OURS.get(key, key): each for key, each in found.items()}, strict=False)
    assert not missing
    assert {key for key in unexpected if not key.startswith("blocks.7.")} == {"mask_token"}
    return theirs, ours


def largest_gap(registered, size):
    theirs, ours = registered
    pixels = photograph(*size)
    with torch.inference_mode():
        pairs = zip(ours(pixels), taps_of(theirs, REGISTERS, pixels), strict=True)
        return max(float((one - other).abs().max() / (other.max() - other.min())) for one, other in pairs)


@pytest.mark.parametrize("size", SIZES[:3], ids=str)
def test_registers_are_leading_tokens_without_positions(size, registered):
    assert REGISTERS.encoder.tokens.prefix == 5
    assert largest_gap(registered, size) <= MAX_OF_RANGE


def test_registers_in_front_of_the_class_token_or_behind_the_patches_are_seen(registered, monkeypatch):
    straight = torch.cat
    for order in ((1, 0, 2), (0, 2, 1)):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "cat", lambda parts, dim=0, order=order: straight(_ordered(parts, order), dim=dim))
            found = registered[1](photograph(1, 56, 98))
        assert found[0].shape == (1, 5 + 28, 48)
        wanted = taps_of(registered[0], REGISTERS, photograph(1, 56, 98))
        assert (found[0] - wanted[0]).abs().max() > NOTICEABLE * (wanted[0].max() - wanted[0].min())


def _ordered(parts, order):
    """The three parts of the tokens in another order; other lists as they are."""
    tokens = len(parts) == 3 and all(part.ndim == 3 for part in parts)
    return [parts[index] for index in order] if tokens else parts


def test_registers_with_positions_are_seen(registered):
    theirs, ours = registered
    with mock.patch.object(ours, "registers", torch.nn.Parameter(ours.registers + ours.position.table[:, 1:5])):
        assert largest_gap((theirs, ours), (1, 56, 98)) > NOTICEABLE
    assert largest_gap(registered, (1, 56, 98)) <= MAX_OF_RANGE


# --- the exported graph -----------------------------------------------------------------------------------------------


def test_one_graph_takes_every_size_and_keeps_positions_in_full_precision():
    path, landmarks = exported("tiny-dinov2").path, tiny_model("tiny-dinov2").landmarks
    assert "encoder.position" in landmarks.fp32_alone
    session = onnxruntime.InferenceSession(path)
    for size in ((1, 14, 14), (2, 42, 350), (1, 70, 84)):
        pixels = photograph(*size)
        (found,) = session.run(None, {"pixel_values": pixels.numpy()})
        assert distance(torch.from_numpy(found), tiny_model("tiny-dinov2")(pixels)) <= MAX_AFTER_EXPORT
    chosen = choose_fp32_nodes(path, "fp16", {}, landmarks.fp32, landmarks.fp32_alone)
    graph = onnx_ir.load(path)
    inside = {node.name for node in graph.graph if node.name.startswith("encoder.position/")}
    products = [node for node in graph.graph if node.name in inside and node.op_type == "MatMul"]
    assert len(products) == 2
    assert inside <= set(chosen)
    assert not inside & {node.name for node in targets(graph)}


# --- faults -----------------------------------------------------------------------------------------------------------


def antialiased(grid, height, width, _offset):
    image = grid.permute(2, 0, 1)[None]
    found = F.interpolate(image, size=(height, width), mode="bicubic", antialias=True)
    return found.flatten(2).transpose(1, 2)


def test_planted_faults_are_seen(original, from_file, file):
    size = (1, 42, 56)
    with mock.patch.object(dinov2, "resized", antialiased):
        assert gap(original, from_file, *size) > NOTICEABLE
    norm, from_file.encoder.norm = from_file.encoder.norm, torch.nn.Identity()
    assert gap(original, from_file, *size) > NOTICEABLE
    from_file.encoder.norm = norm
    gains = from_file.encoder.blocks[2].ls1
    from_file.encoder.blocks[2].ls1 = torch.nn.Identity()
    assert gap(original, from_file, *size) > NOTICEABLE
    from_file.encoder.blocks[2].ls1 = gains
    assert gap(original, load_weights(replace(SPEC, taps=(3, 4, 5, 6)), file)[0], *size) > NOTICEABLE
    assert gap(original, from_file, *size) <= MAX_OF_RANGE  # all faults are gone


def half_pixels(x, size, *, align_corners):
    assert align_corners
    return F.interpolate(
        x, size=size, scale_factor=None if size else 2.0, mode="bilinear", align_corners=not align_corners
    )


def doubled_and_cut(x, size, *, align_corners):
    wide = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=align_corners)
    return wide if size is None else wide[:, :, : size[0], : size[1]]


def corners_of_the_table(grid, height, width, _offset):
    found = F.interpolate(grid.permute(2, 0, 1)[None], size=(height, width), mode="bicubic", align_corners=True)
    return found.flatten(2).transpose(1, 2)


def first_row_of_one(grid, height, width, offset):
    """ONNX's pytorch_half_pixel: a single row is read at the first row of the table, not at its middle."""
    if height > 1:
        return dinov2_resized(grid, height, width, offset)
    return dinov2_resized(grid, grid.shape[0], width, offset)[:, :width]


dinov2_resized = dinov2.resized


class Floored(torch.nn.Module):
    """Half as many rows and columns, rounded down."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x)[:, :, : x.shape[2] // 2, : x.shape[3] // 2]


FAULTS = {
    "half pixels in fusion": lambda _: mock.patch.object(fusion, "upsample", half_pixels),
    "half pixels in the head": lambda _: mock.patch.object(heads, "upsample", half_pixels),
    "twice an odd grid": lambda _: mock.patch.object(fusion, "upsample", doubled_and_cut),
    "aligned positions": lambda _: mock.patch.object(dinov2, "resized", corners_of_the_table),
    "first row for one row": lambda _: mock.patch.object(dinov2, "resized", first_row_of_one),
    "floor for ceil": lambda ours: mock.patch.object(ours.reassemble[3], "resize", Floored(ours.reassemble[3].resize)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_of_sizes_are_seen(fault, original, from_file):
    size = (1, 14, 56) if fault == "first row for one row" else (1, 42, 70)
    with FAULTS[fault](from_file):
        assert gap(original, from_file, *size) > NOTICEABLE
    assert gap(original, from_file, *size) <= MAX_OF_RANGE


def whole_numbers(x, size, *, align_corners):
    return F.interpolate(x, size=tuple(map(int, size)), mode="bilinear", align_corners=align_corners)


def by_factors(grid, height, width, offset):
    factors = ((height + offset) / grid.shape[0], (width + offset) / grid.shape[1])
    found = F.interpolate(grid.permute(2, 0, 1)[None], scale_factor=factors, mode="bicubic")
    return found.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("module", "name", "fault"), [(heads, "upsample", whole_numbers), (dinov2, "resized", by_factors)]
)
def test_a_size_that_is_baked_in_is_no_graph(module, name, fault):
    interface = ExportInterface(axes_of(SPEC, None), "pixel_values", ("predicted_depth",))
    with mock.patch.object(module, name, fault), pytest.raises(DptError):
        onnx_from_module(random_model(SPEC), interface)


def test_a_configuration_of_another_network_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    faults = [
        ({"max_depth": 3}, {}, "max_depth = 3"),
        ({"depth_estimation_type": "metric", "max_depth": 20}, {}, "depth_estimation_type = 'metric'"),
        ({}, {"out_indices": [4, 5, 6, 7], "out_features": None}, "out_features = "),
        ({}, {"apply_layernorm": False}, "apply_layernorm = False"),
        ({}, {"image_size": 224}, "image_size = 224"),
    ]
    for top, backbone, message in faults:
        changed = {**config, **top, "backbone_config": {**config["backbone_config"], **backbone}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(BadFileError) as caught:
            load_weights(SPEC, tmp_path)
        assert message in str(caught.value)
    with pytest.raises(BadFileError, match="depth_estimation_type = 'relative'"):
        load_weights(METRIC, folder)
