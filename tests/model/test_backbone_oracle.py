"""BEiT, Swin V2 and Swin against networks of other authors, at sizes that nothing was built for."""

import json
import shutil
from dataclasses import replace

import pytest
import timm
import torch
from support.backbones import backbone_oracle, backbone_output
from support.huggingface import distance, photograph
from support.tiny import tiny_model, tiny_spec
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.encoders import beit, swin, windows
from dpt_deploy.model.initial import fresh_model
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.model.rewrites.exact import deployable

pytestmark = pytest.mark.needs("torch", "transformers")

MAX_OF_RANGE = 1e-5
MAX_AFTER_EXPORT = 1e-4
NOTICEABLE = 1e-2
BEIT, SWIN2, SWIN = tiny_spec("tiny-beit"), tiny_spec("tiny-swin2"), tiny_spec("tiny-swin")
SIZES = [(1, 128, 128), (2, 96, 96), (3, 64, 160), (1, 224, 96)]


@pytest.fixture(scope="module")
def oracles():
    return {spec.name: backbone_oracle(spec) for spec in (BEIT, SWIN2)}


@pytest.fixture(scope="module")
def folders(oracles, tmp_path_factory):
    made = {name: tmp_path_factory.mktemp(name) for name in oracles}
    for name, folder in made.items():
        oracles[name].save_pretrained(folder)
    return made


@pytest.fixture(scope="module")
def pairs(oracles, folders):
    specs = {spec.name: spec for spec in (BEIT, SWIN2)}
    return {name: (oracles[name], load_weights(spec, folders[name])[0]) for name, spec in specs.items()}


def gap(pair, batch, height, width):
    theirs, ours = pair
    pixels = photograph(batch, height, width)
    with torch.inference_mode():
        return distance(ours(pixels), backbone_output(theirs, pixels))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["tiny-beit", "tiny-swin2"])
def test_the_network_agrees_with_transformers(name, size, pairs):
    assert gap(pairs[name], *size) <= MAX_OF_RANGE


@pytest.mark.parametrize("name", ["tiny-beit", "tiny-swin2"])
def test_so_does_the_form_that_is_exported(name, pairs):
    theirs, ours = pairs[name]
    assert gap((theirs, deployable(ours)), 2, 96, 160) <= MAX_AFTER_EXPORT  # logits of 100 in another order


@pytest.mark.parametrize("name", ["tiny-beit"])
def test_the_names_of_transformers_5_are_read_too(name, oracles, folders, pairs, tmp_path):
    torch.save(oracles[name].state_dict(), tmp_path / "pytorch_model.bin")
    shutil.copy(folders[name] / "config.json", tmp_path)
    assert any(key.startswith("backbone.beit.layers.") for key in oracles[name].state_dict())
    state = load_weights(BEIT, tmp_path)[0].state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in pairs[name][1].state_dict().items())


# --- timm -------------------------------------------------------------------------------------------------------------


def timm_swin(spec, state, **options):
    """timm's own network with our weights: its names differ in two places, and its merging layers stand a stage on."""
    encoder = spec.encoder
    kind = {"swin": timm.models.swin_transformer.SwinTransformer}.get(
        encoder.kind, timm.models.swin_transformer_v2.SwinTransformerV2
    )
    windows_of = {"pretrained_window_sizes": encoder.pretrained_windows} if encoder.kind == "swin2" else {}
    net = kind(
        embed_dim=encoder.width,
        depths=encoder.depths,
        num_heads=encoder.heads,
        window_size=encoder.window,
        num_classes=0,
        **{"img_size": 4 * encoder.grid, "strict_img_size": False, **windows_of, **options},
    )
    found = {}
    for key, tensor in state.items():
        name = key.replace("stages.", "layers.").replace("embed.", "patch_embed.")
        name = name.replace("scores.position.", "cpb_mlp.").replace("scores.table", "relative_position_bias_table")
        name = name.replace("scores.logit_scale", "logit_scale")
        if ".merge." in name:
            stage = int(name.split(".")[1])
            name = name.replace(f"layers.{stage}.merge.", f"layers.{stage + 1}.downsample.")
        found[name] = tensor
    missing, unexpected = net.load_state_dict(found, strict=False)
    assert set(missing) == {"norm.weight", "norm.bias"}
    assert not unexpected
    return net.eval()


def timm_maps(net, pixels):
    """The maps of timm's stages (B, C, H, W), without the norm that its own feature extraction may add."""
    x, maps = net.patch_embed(pixels), []
    for stage in net.layers:
        x = stage(x)
        maps.append(x.permute(0, 3, 1, 2))
    return maps


def largest_gaps(spec, pixels, **options):
    encoder = tiny_model(spec.name).encoder
    net = timm_swin(spec, encoder.state_dict(), **options)
    with torch.inference_mode():
        pairs = zip(encoder(pixels), timm_maps(net, pixels), strict=True)
        return [float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("spec", [SWIN2, SWIN], ids=lambda spec: spec.name)
def test_every_stage_agrees_with_timm(spec, size):
    assert max(largest_gaps(spec, photograph(*size))) <= MAX_OF_RANGE


def test_windows_rebuilt_for_the_size_of_the_image_are_another_network():
    gaps = largest_gaps(SWIN2, photograph(1, 256, 256), img_size=256)
    assert max(gaps[:3]) <= MAX_OF_RANGE  # these windows are the same, and one block does not shift
    assert gaps[3] > NOTICEABLE


def test_off_the_step_of_sizes_the_libraries_differ():
    """Where a shifted map lacks another number of cells than half a window, it matters when it is padded."""
    spec = replace(SWIN2, encoder=replace(SWIN2.encoder, window=12, grid=48))
    assert spec.encoder.size_step == 96
    model, net = (
        random_model(replace(spec, stride=96)).encoder,
        timm_swin(spec, random_model(spec).encoder.state_dict()),
    )
    gaps = {}
    for side in (192, 160):
        pixels = photograph(1, side, side)
        with torch.inference_mode():
            pairs = zip(model(pixels), timm_maps(net, pixels), strict=True)
            gaps[side] = max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)
    assert gaps[192] <= MAX_OF_RANGE
    assert gaps[160] > NOTICEABLE


# --- the comparison can fail ------------------------------------------------------------------------------------------


def test_bicubic_tables_are_noticed(pairs, monkeypatch):
    def as_timm_does(offsets, height, width):
        sides, shape = ((height + 1) // 2, (width + 1) // 2), (offsets.shape[1], height, width)
        return resize_rel_pos_bias_table_simple(offsets.squeeze(0), sides, shape).unsqueeze(0)

    monkeypatch.setattr(beit, "resize_offsets", as_timm_does)
    assert gap(pairs["tiny-beit"], 1, 160, 64) > NOTICEABLE
    assert gap(pairs["tiny-beit"], 1, 96, 96) <= MAX_OF_RANGE  # why the training size alone proves nothing


def test_swapped_sides_are_noticed(pairs, monkeypatch):
    straight = beit.pair_rows
    monkeypatch.setattr(beit, "pair_rows", lambda height, width, device: straight(width, height, device))
    assert gap(pairs["tiny-beit"], 1, 160, 64) > NOTICEABLE


def test_swapped_rows_of_the_readout_token_are_noticed(pairs, monkeypatch):
    straight = beit.pair_rows
    monkeypatch.setattr(beit, "pair_rows", lambda height, width, device: straight(height, width, device).T)
    assert gap(pairs["tiny-beit"], 1, 96, 96) > NOTICEABLE


def test_another_window_is_noticed(pairs, monkeypatch):
    for stage in pairs["tiny-swin2"][1].encoder.stages[:2]:
        monkeypatch.setattr(stage.windows, "shift", 2)
    assert gap(pairs["tiny-swin2"], 1, 128, 128) > NOTICEABLE


def test_a_missing_mask_is_noticed(pairs, monkeypatch):
    monkeypatch.setattr(windows, "_APART", 0.0)
    assert gap(pairs["tiny-swin2"], 1, 128, 128) > NOTICEABLE


def test_a_missing_clamp_is_noticed(pairs, monkeypatch):
    monkeypatch.setattr(swin, "_MAX_LOG_SCALE", 100.0)
    assert gap(pairs["tiny-swin2"], 1, 128, 128) > NOTICEABLE


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [BEIT, SWIN2, SWIN], ids=lambda spec: spec.name)
def test_a_network_to_be_trained_begins_with_sane_values(spec):
    model = fresh_model(spec)
    values = model.state_dict().items()
    assert all(torch.isfinite(tensor).all() and tensor.abs().max() < 30 for _key, tensor in values)
    assert all(not tensor.any() for key, tensor in values if key.endswith(("table", "q_bias", "v_bias")))
    assert all(bool((tensor == 0.1).all()) for key, tensor in values if "gamma" in key)
    output = model(photograph(1, 64, 64))
    output.sum().backward()
    assert output.std() > 0


# --- config.json ------------------------------------------------------------------------------------------------------


def changed(folder, target, part, **changes):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    config = json.loads((target / "config.json").read_text())
    (config[part] if part else config).update(changes)
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("name", "part", "changes"),
    [
        ("tiny-beit", "backbone_config", {"num_attention_heads": 4}),
        ("tiny-beit", "backbone_config", {"use_absolute_position_embeddings": True}),
        ("tiny-beit", "backbone_config", {"out_features": ["stage1", "stage2", "stage3"]}),
        ("tiny-beit", "backbone_config", {"model_type": "swinv2"}),
        ("tiny-beit", "", {"readout_type": "add"}),
        ("tiny-swin2", "backbone_config", {"window_size": 7}),
        ("tiny-swin2", "backbone_config", {"image_size": 256}),
        ("tiny-swin2", "backbone_config", {"pretrained_window_sizes": [8, 8, 8, 4]}),
        ("tiny-swin2", "", {"head_in_index": 0}),
        ("tiny-swin2", "", {"backbone_config": None}),
    ],
    ids=str,
)
def test_a_configuration_of_another_network_is_an_error(name, part, changes, folders, tmp_path):
    source = changed(folders[name], tmp_path, part, **changes)
    with pytest.raises(BadFileError, match=f"config.json has {next(iter(changes))} = "):
        load_weights(tiny_spec(name), source)


@pytest.mark.parametrize(
    ("name", "part", "changes"),
    [
        ("tiny-beit", "", {"hidden_size": None, "patch_size": None, "num_hidden_layers": 7}),
        ("tiny-beit", "backbone_config", {"out_features": None, "drop_path_rate": 0.9, "vocab_size": 7}),
        ("tiny-swin2", "", {"readout_type": "add", "reassemble_factors": [1, 1, 1, 0.5]}),
        ("tiny-swin2", "backbone_config", {"image_size": [128, 128], "hidden_size": 7}),
    ],
    ids=str,
)
def test_entries_that_change_nothing_do_not_matter(name, part, changes, folders, tmp_path):
    assert load_weights(tiny_spec(name), changed(folders[name], tmp_path, part, **changes))[1].fits


def test_the_epsilon_of_the_configuration_counts(folders, tmp_path):
    source = changed(folders["tiny-beit"], tmp_path, "backbone_config", layer_norm_eps=1e-3)
    assert load_weights(BEIT, source)[0].spec.encoder.norm_eps == 1e-3
