"""Hugging Face's DPT, independent code, as the oracle for the network, the loader and the writer.

With its layer-norm epsilon set to ours the two agree to the last bit; the tolerance is for other machines.
"""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.checkpoints import Network, dpt_main, dpt_scriptable, random_tensors
from support.specs import SMALL_HYBRID, SMALL_VIT

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.spec import ImageSpec, MetricTail
from dpt_deploy.model import fusion
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.encoders.vit import PositionEmbedding
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.model.reassemble import IgnoreReadout

transformers = pytest.importorskip("transformers", reason="transformers is the oracle (pip install -e '.[oracle]')")

from support.huggingface import distance, lift, oracle, oracle_class, oracle_config, oracle_output, photograph  # noqa: E402

MAX_OF_RANGE = 1e-5
NOTICEABLE = 1e-3  # of the range: what a planted fault must exceed by far
SQUARE, WIDE = (384, 384), (256, 448)
IMAGE = ImageSpec(480, 480, "minimal", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def run(model, pixels):
    with torch.inference_mode():
        return model(pixels)


def spec_of(name, task="depth", classes=None):
    return load_recipe(name, task=task, classes=classes).model


# --- full size: Hugging Face writes, we read --------------------------------------------------------------------------

FULL = {
    "base": (spec_of("base"), [(1, SQUARE), (2, WIDE)]),
    "hybrid": (spec_of("hybrid"), [(1, (192, 192)), (2, (128, 224))]),
    "hybrid-ade": (spec_of("hybrid", "segmentation"), [(1, (192, 192)), (2, (64, 128))]),
    "base-60-classes": (spec_of("base", "segmentation", 60), [(2, (128, 64))]),
}


@pytest.mark.parametrize("name", FULL)
def test_we_agree_with_the_oracle_at_full_width(name, tmp_path):
    spec, inputs = FULL[name]
    theirs = oracle(spec)
    theirs.save_pretrained(tmp_path)
    ours, report = load_weights(spec, tmp_path)
    assert report.family == "Hugging Face DPT"
    assert ours.spec == spec
    for batch, size in inputs:
        pixels = photograph(batch, *size)
        assert distance(run(ours, pixels), oracle_output(theirs, pixels)) <= MAX_OF_RANGE


@pytest.mark.slow
def test_we_agree_with_the_oracle_on_large(tmp_path):
    spec = spec_of("large")
    theirs = oracle(spec)
    theirs.save_pretrained(tmp_path)
    ours, _ = load_weights(spec, tmp_path)
    pixels = photograph(1, 192, 256)
    assert distance(run(ours, pixels), oracle_output(theirs, pixels)) <= MAX_OF_RANGE


def test_the_workaround_is_the_oracle_s_own_forward_at_its_own_size():
    theirs = oracle(SMALL_VIT)
    pixels = photograph(1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(oracle_output(theirs, pixels), theirs(pixels).predicted_depth)


# --- the original's keys, with the same oracle -------------------------------------------------------------------

# Written down here once more: an account of the original's names that the key maps have no part in.
ORIGINAL_TO_ORACLE = (
    (r"pretrained\.model\.cls_token", "dpt.embeddings.cls_token"),
    (r"pretrained\.model\.pos_embed", "dpt.embeddings.position_embeddings"),
    (r"pretrained\.model\.patch_embed\.backbone\.stem\.conv", "dpt.embeddings.backbone.bit.embedder.convolution"),
    (r"pretrained\.model\.patch_embed\.backbone\.stem\.norm", "dpt.embeddings.backbone.bit.embedder.norm"),
    (
        r"pretrained\.model\.patch_embed\.backbone\.stages\.(\d+)\.blocks",
        r"dpt.embeddings.backbone.bit.encoder.stages.\1.layers",
    ),
    (r"pretrained\.model\.norm", "dpt.layernorm"),
    (r"pretrained\.model\.blocks\.(\d+)\.norm1", r"dpt.encoder.layer.\1.layernorm_before"),
    (r"pretrained\.model\.blocks\.(\d+)\.norm2", r"dpt.encoder.layer.\1.layernorm_after"),
    (r"pretrained\.model\.blocks\.(\d+)\.attn\.proj", r"dpt.encoder.layer.\1.attention.output.dense"),
    (r"pretrained\.model\.blocks\.(\d+)\.mlp\.fc1", r"dpt.encoder.layer.\1.intermediate.dense"),
    (r"pretrained\.model\.blocks\.(\d+)\.mlp\.fc2", r"dpt.encoder.layer.\1.output.dense"),
    (r"scratch\.output_conv", "head.head"),
    (r"auxlayer", "auxiliary_head.head"),
)
NUMBERED = (  # counted from 1, finest first; the oracle counts from 0, and fuses coarsest first
    (r"pretrained\.act_postprocess(\d)\.0\.project\.0", "neck.reassemble_stage.readout_projects.{up}.0"),
    (r"pretrained\.readout_oper(\d)\.0\.project\.0", "neck.reassemble_stage.readout_projects.{up}.0"),
    (r"pretrained\.act_postprocess(\d)\.[30](?=\.weight|\.bias)", "neck.reassemble_stage.layers.{up}.projection"),
    (r"pretrained\.act_postprocess(\d)\.[41](?=\.weight|\.bias)", "neck.reassemble_stage.layers.{up}.resize"),
    (r"scratch\.layer(\d)_rn", "neck.convs.{up}"),
    (r"scratch\.refinenet(\d)\.out_conv", "neck.fusion_stage.layers.{down}.projection"),
    (r"scratch\.refinenet(\d)\.resConfUnit", "neck.fusion_stage.layers.{down}.residual_layer"),
)


def oracle_state(tensors, *, hybrid):
    """The original's tensors under the oracle's names."""
    state = {}
    for original, tensor in tensors.items():
        key = original
        for pattern, name in ORIGINAL_TO_ORACLE:
            key = re.sub(f"^{pattern}", name, key)
        for pattern, name in NUMBERED:
            match = re.match(pattern, key)
            if match:
                level = int(match[1])
                key = name.format(up=level - 1, down=4 - level) + key[match.end() :]
        key = re.sub(r"(residual_layer\d\.)conv", r"\1convolution", key)
        key = re.sub(r"(residual_layer\d\.)bn", r"\1batch_norm", key)
        patches = "dpt.embeddings.projection" if hybrid else "dpt.embeddings.patch_embeddings.projection"
        key = key.replace("pretrained.model.patch_embed.proj", patches)
        block = re.fullmatch(r"pretrained\.model\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", key)
        pieces = zip(("query", "key", "value"), tensor.chunk(3), strict=True) if block else ()
        state |= {f"dpt.encoder.layer.{block[1]}.attention.attention.{n}.{block[2]}": piece for n, piece in pieces}
        if not block and not key.startswith("pretrained.model.head."):
            state[key] = tensor
    return state


ORIGINALS = {
    "project": SMALL_VIT,
    "ignore": replace(SMALL_VIT, readout="ignore"),
    "add": replace(SMALL_VIT, readout="add"),
    "segmentation": SMALL_VIT.with_classes(7),
    "hybrid": SMALL_HYBRID,
    "hybrid segmentation": SMALL_HYBRID.with_classes(7),
}


@pytest.mark.parametrize("branch", [dpt_main, dpt_scriptable], ids=["main", "scriptable"])
@pytest.mark.parametrize("spec", ORIGINALS.values(), ids=ORIGINALS.keys())
def test_the_original_s_keys_give_what_the_oracle_gives(spec, branch, tmp_path):
    hybrid = spec.encoder.kind == "hybrid"
    stages = {}
    if hybrid:
        stages = {name: getattr(spec.encoder, name) for name in ("stage_blocks", "stage_channels")}
        stages["stem"] = spec.encoder.stem_channels
    net = Network(
        width=32,
        depth=4,
        channels=spec.reassemble_channels,
        hybrid=hybrid,
        readout=spec.readout,
        classes=spec.num_classes,
        grid=4,
        fusion=16,
        **stages,
    )
    tensors = random_tensors(branch(net), seed=3)
    theirs = oracle_class(spec)(oracle_config(spec, use_auxiliary_head=branch is dpt_main)).eval()
    theirs.load_state_dict(oracle_state(tensors, hybrid=hybrid), strict=True)
    if spec.task == "depth":
        lift(theirs)
        tensors["scratch.output_conv.4.bias"] = theirs.head.head[4].bias.detach()
    torch.save(tensors, tmp_path / "original.pt")
    ours, _ = load_weights(spec, tmp_path / "original.pt")
    for size in ((64, 64), (64, 96)):
        pixels = photograph(2, *size)
        assert distance(run(ours, pixels), oracle_output(theirs, pixels)) <= MAX_OF_RANGE


# --- tiny: every variant, in both directions --------------------------------------------------------------------------

VARIANTS = {
    "project": SMALL_VIT,
    "ignore": replace(SMALL_VIT, readout="ignore"),
    "add": replace(SMALL_VIT, readout="add"),
    "early taps": replace(SMALL_VIT, taps=(0, 1, 2, 4), encoder=replace(SMALL_VIT.encoder, depth=6)),
    "segmentation": SMALL_VIT.with_classes(60),
    "patches of 8": replace(SMALL_VIT, encoder=replace(SMALL_VIT.encoder, patch=8, grid=8)),
    "hybrid": SMALL_HYBRID,
    "hybrid segmentation": SMALL_HYBRID.with_classes(7),
}


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_hugging_face_to_us(spec, tmp_path):
    theirs = oracle(spec)
    theirs.save_pretrained(tmp_path)
    ours, report = load_weights(spec, tmp_path)
    assert len(report.used) + len(report.unused) == len(theirs.state_dict())
    for size in ((64, 64), (64, 96), (160, 32)):
        pixels = photograph(2, *size)
        assert distance(run(ours, pixels), oracle_output(theirs, pixels)) <= MAX_OF_RANGE


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_us_to_hugging_face_and_back(spec, tmp_path):
    ours = random_model(spec, seed=1)
    save_huggingface(ours, tmp_path / "folder", image=IMAGE)
    theirs, loading = oracle_class(spec).from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for size in ((64, 64), (64, 96)):
        pixels = photograph(2, *size)
        assert distance(run(ours, pixels), oracle_output(theirs.eval(), pixels)) <= MAX_OF_RANGE
    again, _ = load_weights(spec, tmp_path / "folder")
    assert again.spec == spec
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in ours.state_dict().items())


def test_our_folder_has_a_processor_that_makes_a_square(tmp_path):
    save_huggingface(random_model(SMALL_VIT), tmp_path, image=IMAGE)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    assert type(processor).__name__.startswith("DPTImageProcessor")
    pixels = processor(images=torch.full((3, 300, 500), 255, dtype=torch.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape[2:] == (480, 480)
    assert torch.allclose(pixels, torch.ones_like(pixels))  # (255/255 - 0.5) / 0.5


@pytest.mark.parametrize("spec", [SMALL_VIT, SMALL_HYBRID], ids=lambda spec: spec.encoder.kind)
@pytest.mark.parametrize("sides", [(64, 64), (64, 96), (480, 480)], ids=str)
def test_the_library_s_pipeline_runs_a_photograph_that_is_not_square(spec, sides, tmp_path):
    ours, image = random_model(spec), replace(IMAGE, height=sides[0], width=sides[1])
    save_huggingface(ours, tmp_path, image=image)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8))
    pipeline = transformers.pipeline("depth-estimation", model=str(tmp_path))
    found = pipeline(photo)
    assert found["depth"].size == photo.size
    depth = run(ours, pipeline.image_processor(images=photo, return_tensors="pt")["pixel_values"])
    resized = torch.nn.functional.interpolate(depth[:, None], (100, 150), mode="bicubic")[0, 0]
    assert distance(resized, found["predicted_depth"]) <= MAX_OF_RANGE


def test_the_library_s_pipeline_fails_where_the_aspect_is_kept(tmp_path):
    """Once it does not, a folder may keep the aspect as our own imaging does."""
    save_huggingface(random_model(SMALL_VIT), tmp_path, image=replace(IMAGE, height=64, width=64))
    path = tmp_path / "preprocessor_config.json"
    rule = json.loads(path.read_text()) | {"keep_aspect_ratio": True, "ensure_multiple_of": 32}
    path.write_text(json.dumps(rule))
    pipeline = transformers.pipeline("depth-estimation", model=str(tmp_path))
    with pytest.raises(RuntimeError, match="is invalid for input of size"):
        pipeline(Image.new("RGB", (150, 100)))


def test_the_parameters_only_hugging_face_has_are_neutral(tmp_path):
    save_huggingface(random_model(SMALL_VIT.with_classes(5)), tmp_path)
    state = oracle_class(SMALL_VIT.with_classes(5)).from_pretrained(tmp_path).state_dict()
    assert (state["dpt.layernorm.weight"] == 1).all()
    assert (state["neck.fusion_stage.layers.0.residual_layer1.convolution1.weight"] == 0).all()
    assert (state["neck.fusion_stage.layers.0.residual_layer1.batch_norm2.running_var"] == 1).all()
    assert (state["auxiliary_head.head.4.weight"] == 0).all()


# --- forms of a folder ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    oracle(SMALL_VIT).save_pretrained(path)
    return path


def equal_to(folder, source):
    reference, _ = load_weights(SMALL_VIT, folder)
    state = load_weights(SMALL_VIT, source)[0].state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in reference.state_dict().items())


def test_the_file_alone_the_old_bin_and_shards_are_the_same(folder, tmp_path):
    assert equal_to(folder, folder / "model.safetensors")
    theirs = oracle(SMALL_VIT)
    shutil.copy(folder / "config.json", tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert equal_to(folder, tmp_path)
    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").is_file()
    assert equal_to(folder, tmp_path / "sharded")
    assert len(load_weights(SMALL_VIT, tmp_path / "sharded")[1].files) > 1


@pytest.mark.parametrize("form", ["safetensors", "sharded", "bin", "cache"])
def test_a_variant_and_a_file_by_its_own_name_honour_the_configuration(form, tmp_path):
    theirs = oracle(SMALL_VIT, layer_norm_eps=1e-3)
    folder = tmp_path / "folder"
    if form == "bin":
        theirs.config.save_pretrained(folder)
        torch.save(theirs.state_dict(), folder / "pytorch_model.fp16.bin")
    elif form == "cache":  # names are links to files that are called by their hash
        theirs.save_pretrained(tmp_path / "blobs")
        folder.mkdir()
        for path in (tmp_path / "blobs").iterdir():
            (folder / path.name).symlink_to(path.rename(path.with_name(f"{len(path.name):040x}")))
    else:
        theirs.save_pretrained(folder, variant="fp16", max_shard_size="50KB" if form == "sharded" else "1GB")
    named = next(path for path in sorted(folder.iterdir()) if re.fullmatch(r".*model\.(?!.*-of-).*", path.name))
    for source in (folder, named):
        ours, _ = load_weights(SMALL_VIT, source)
        assert ours.spec.encoder.norm_eps == 1e-3
        pixels = photograph(1, 64, 64)
        assert distance(run(ours, pixels), oracle_output(theirs, pixels)) <= MAX_OF_RANGE


def test_a_folder_of_two_variants_asks_for_one(folder, tmp_path):
    for variant in ("fp16", "bf16"):
        shutil.copy(folder / "model.safetensors", tmp_path / f"model.{variant}.safetensors")
    with pytest.raises(BadFileError, match="2 variants") as caught:
        load_weights(SMALL_VIT, tmp_path)
    assert "model.bf16.safetensors" in caught.value.hint


def test_a_file_of_another_name_is_taken_without_the_configuration_next_to_it(folder, tmp_path):
    source = changed_config(folder, tmp_path, layer_norm_eps=1e-3)
    (source / "model.safetensors").rename(source / "weights.safetensors")
    assert load_weights(SMALL_VIT, source / "weights.safetensors")[0].spec == SMALL_VIT


def test_a_missing_shard_is_an_error_and_so_is_one_outside(folder, tmp_path):
    oracle(SMALL_VIT).save_pretrained(tmp_path, max_shard_size="50KB")
    next(tmp_path.glob("model-00002-*.safetensors")).unlink()
    with pytest.raises(BadFileError, match=r"model-00002-.* does not exist"):
        load_weights(SMALL_VIT, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.bin"}}')
    with pytest.raises(BadFileError, match="without a folder"):
        load_weights(SMALL_VIT, tmp_path)


def changed_config(folder, tmp_path, **changes):
    shutil.copytree(folder, tmp_path / "changed")
    path = tmp_path / "changed" / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return tmp_path / "changed"


@pytest.mark.parametrize(("eps", "used"), [(1e-5, 1e-5), (..., 1e-12)], ids=["stated", "library default"])
def test_the_epsilon_of_the_folder_replaces_that_of_the_recipe(eps, used, folder, tmp_path):
    source = changed_config(folder, tmp_path, layer_norm_eps=eps)
    ours, _ = load_weights(SMALL_VIT, source)
    assert ours.spec.encoder.norm_eps == used
    assert ours.get_submodule("encoder.blocks.0.norm1").eps == used
    theirs = oracle(SMALL_VIT, layer_norm_eps=used)
    pixels = photograph(1, 64, 96)
    assert distance(run(ours, pixels), oracle_output(theirs, pixels)) <= MAX_OF_RANGE


CONTRADICTIONS = {
    "model_type": "zoedepth",
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "backbone_out_indices": [0, 1, 1, 3],
    "neck_hidden_sizes": [8, 12, 16, 24],
    "readout_type": "add",
    "is_hybrid": True,
    "hidden_act": "gelu_new",
    "add_projection": True,
    "use_batch_norm_in_fusion_residual": True,
    "image_size": [64, 96],
    "layer_norm_eps": "small",
}


@pytest.mark.parametrize(("key", "value"), CONTRADICTIONS.items(), ids=CONTRADICTIONS.keys())
def test_a_configuration_of_another_network_is_named_with_both_values(key, value, folder, tmp_path):
    source = changed_config(folder, tmp_path, **{key: value})
    with pytest.raises(BadFileError, match=f"config.json has {key} = ") as caught:
        load_weights(SMALL_VIT, source)
    assert repr(value) in str(caught.value)
    assert caught.value.hint


def test_another_stage_layout_of_a_hybrid_is_an_error(tmp_path):
    oracle(SMALL_HYBRID).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["backbone_config"]["layer_type"] = "preactivation"
    path.write_text(json.dumps(config))
    with pytest.raises(BadFileError, match="layer_type = 'preactivation'; 'tiny-hybrid' has 'bottleneck'"):
        load_weights(SMALL_HYBRID, tmp_path)


def test_another_number_of_classes_names_the_option(tmp_path):
    oracle(SMALL_VIT.with_classes(60)).save_pretrained(tmp_path)
    with pytest.raises(BadFileError, match="has 60 classes") as caught:
        load_weights(SMALL_VIT.with_classes(150), tmp_path)
    assert "--classes 60" in caught.value.hint


def test_a_broken_configuration_is_an_error(folder, tmp_path):
    source = changed_config(folder, tmp_path)
    (source / "config.json").write_text("{")
    with pytest.raises(BadFileError, match=r"config.json is not valid JSON"):
        load_weights(SMALL_VIT, source)


INEXPRESSIBLE = {
    "second leading token": replace(SMALL_VIT, encoder=replace(SMALL_VIT.encoder, prefix_tokens=2)),
    "metric tail": replace(SMALL_VIT, metric=MetricTail(0.1, 0.1, 256.0)),
    "decoder 'midas21'": replace(SMALL_VIT, decoder="midas21"),
    "weight standardisation": replace(
        SMALL_HYBRID, encoder=replace(SMALL_HYBRID.encoder, weight_standardisation="sum")
    ),
    "taps out of order": replace(SMALL_VIT, taps=(0, 2, 1, 3)),
    "read-out": replace(SMALL_HYBRID, readout="ignore"),
    "other taps": replace(SMALL_HYBRID, taps=(0, 1, 2, 3), reassemble_channels=(8, 12, 16, 20)),
}


@pytest.mark.parametrize(("what", "spec"), INEXPRESSIBLE.items(), ids=INEXPRESSIBLE.keys())
def test_what_hugging_face_cannot_express_is_refused(what, spec, tmp_path):
    with pytest.raises(UsageError, match=what):
        save_huggingface(random_model(spec), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# --- the comparison can fail ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(folder):
    return oracle(SMALL_VIT), load_weights(SMALL_VIT, folder)[0]


def gap(pair, size=(64, 96)):
    theirs, ours = pair
    pixels = photograph(2, *size)
    return distance(run(ours, pixels), oracle_output(theirs, pixels))


def test_the_sound_pair_agrees(pair):
    assert gap(pair) <= MAX_OF_RANGE


def test_a_dropped_readout_is_noticed(pair, monkeypatch):
    monkeypatch.setitem(pair[1].reassemble[1]._modules, "readout", IgnoreReadout(1))
    assert gap(pair) > NOTICEABLE


def test_flipped_corners_are_noticed(pair, monkeypatch):
    straight = fusion.upsample2
    monkeypatch.setattr(fusion, "upsample2", lambda x, align_corners: straight(x, align_corners=not align_corners))
    assert gap(pair) > NOTICEABLE


def test_a_position_grid_with_swapped_sides_is_noticed_where_it_shows(pair, monkeypatch):
    straight = PositionEmbedding.forward
    monkeypatch.setattr(PositionEmbedding, "forward", lambda self, height, width: straight(self, width, height))
    assert gap(pair) > NOTICEABLE
    assert gap(pair, (64, 64)) <= MAX_OF_RANGE  # why square images alone prove nothing


def test_swapped_query_and_key_are_noticed(folder, tmp_path):
    theirs = oracle(SMALL_VIT)
    state = theirs.state_dict()
    swap = {".query.": ".key.", ".key.": ".query."}
    for old, new in swap.items():
        state |= {key.replace(old, new): tensor for key, tensor in theirs.state_dict().items() if old in key}
    torch.save(state, tmp_path / "pytorch_model.bin")
    shutil.copy(folder / "config.json", tmp_path)
    assert gap((theirs, load_weights(SMALL_VIT, tmp_path)[0])) > NOTICEABLE


@pytest.mark.parametrize("fault", ["missing", "unexpected", "of wrong shape"])
def test_a_folder_with_a_wrong_key_is_refused(fault, folder, tmp_path):
    state = oracle(SMALL_VIT).state_dict()
    if fault == "missing":
        del state["dpt.encoder.layer.1.attention.attention.key.weight"]
    elif fault == "unexpected":
        state["dpt.encoder.layer.1.lambda_1"] = torch.ones(32)
    else:
        state["head.head.2.weight"] = torch.zeros(32, 9, 3, 3)
    torch.save(state, tmp_path / "pytorch_model.bin")
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(BadFileError, match=f"1 {fault}"):
        load_weights(SMALL_VIT, tmp_path)
