"""Each entry of a Hugging Face ``config.json``: loaded exactly if the library's own output does not change with it.

The library's forward pass is the judge: every case runs it with the entry changed and unchanged.
"""

import json
from dataclasses import replace

import pytest
import torch
from support.specs import SMALL_HYBRID, SMALL_VIT

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.random_weights import random_model

transformers = pytest.importorskip("transformers", reason="transformers is the oracle (pip install -e '.[oracle]')")

from support.huggingface import distance, oracle, oracle_class, photograph  # noqa: E402

MAX_OF_RANGE = 1e-5
PIXELS = photograph(1, 64, 64)
SPECS = {
    "vit": SMALL_VIT,
    "hybrid": SMALL_HYBRID,
    "segmentation": SMALL_VIT.with_classes(5),
    "vit of 6": replace(SMALL_VIT, taps=(0, 1, 2, 4)),
}
SPECS["vit of 6"] = replace(SPECS["vit of 6"], encoder=replace(SMALL_VIT.encoder, depth=6))

BIT = "backbone_config."  # prefix of the keys of the hybrid's ResNet
SAME = {
    "hybrid": [
        {"backbone_out_indices": [2, 5, 1, 3]},  # the library's default for the first two
        {"backbone_out_indices": [0, 1, 3, 1]},
        {"backbone_out_indices": [0, 1, 1, 3, 3, 9]},
        {"reassemble_factors": [4, 2, 1, 0.5]},
        {"reassemble_factors": [4, 2, 1, 0.45]},  # acts through int(1 / 0.45)
        {"patch_size": [16, 16]},
        {"image_size": [64, 64]},
        {"neck_ignore_stages": [1, 0, 9]},
        {"head_in_index": 3},
        {"hidden_act": "gelu_python"},
        {f"{BIT}global_padding": "same"},
        {f"{BIT}output_stride": 16},
        {f"{BIT}drop_path_rate": 0.5},
        {f"{BIT}hidden_sizes": [64, 128, 64], f"{BIT}width_factor": 2},
        {f"{BIT}hidden_sizes": [128, 256, 128, 2048]},
        {f"{BIT}out_features": None, f"{BIT}out_indices": [1, 2, 3]},
        {f"{BIT}model_type": ...},
        {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5, "auxiliary_loss_weight": 0.2},
    ],
    "vit": [
        {"backbone_out_indices": [3, 2, 1, 0]},
        {"neck_ignore_stages": [0, 1]},
        {"backbone_featmap_shape": [1, 7, 7, 7]},
        {"use_bias_in_fusion_residual": True},
        {"use_batch_norm_in_fusion_residual": None},
        {"num_hidden_layers": 6},  # two more blocks after the last tap, which the file does not have
        {"image_size": 79},
        {"pooler_output_size": 7, "pooler_act": "relu", "initializer_range": 3.0, "chunk_size_feed_forward": 1},
        {"reassemble_factors": [4, 2, 1, 0.5, 7]},
    ],
    "segmentation": [{"add_projection": True}, {"use_auxiliary_head": False}, {"semantic_classifier_dropout": 0.9}],
    "vit of 6": [{"num_hidden_layers": 5}, {"num_hidden_layers": 8}],
}
OTHER = {
    "hybrid": [
        {"backbone_out_indices": [0, 1, 2, 3]},
        {"backbone_out_indices": [1, 3]},
        {"backbone_out_indices": [1, 3, 1]},
        {"reassemble_factors": [1, 1, 1, 0.3]},
        {"neck_ignore_stages": [0]},
        {"neck_ignore_stages": [0, 1, 2]},
        {"head_in_index": 2},
        {"hidden_act": "relu"},
        {"num_attention_heads": 4},
        {"readout_type": "ignore"},
        {f"{BIT}hidden_act": "gelu"},
        {f"{BIT}num_groups": 16},
        {f"{BIT}output_stride": 8},
        {f"{BIT}global_padding": None},
        {f"{BIT}global_padding": "valid"},
        {f"{BIT}embedding_dynamic_padding": False},
        {f"{BIT}layer_type": "preactivation"},
        {f"{BIT}depths": [1, 1, 2]},
        {f"{BIT}out_features": ["stem", "stage1", "stage2"], f"{BIT}out_indices": None},
        {f"{BIT}out_features": None, f"{BIT}out_indices": None},
        {f"{BIT}width_factor": 2},
        {"backbone_config": None},  # that of the full-size hybrid
    ],
    "vit": [
        {"backbone_out_indices": [0, 1, 3, 3]},
        {"backbone_out_indices": [-1, 0, 1, 2]},
        {"reassemble_factors": [4, 2, 1, 0.25]},
        {"num_hidden_layers": 3},
        {"num_attention_heads": 8},
        {"hidden_act": "quick_gelu"},
        {"head_in_index": 1},
        {"add_projection": True},
        {"use_batch_norm_in_fusion_residual": True},
        {"use_bias_in_fusion_residual": False},
        {"backbone_config": {"model_type": "dinov2"}},
        {"image_size": [64, 128]},
    ],
    "segmentation": [{"use_batch_norm_in_fusion_residual": False}],
    "vit of 6": [{"backbone_out_indices": [0, 1, 2, 5]}],
}


def cases(table):
    return [
        pytest.param(name, changes, id=f"{name} {' '.join(f'{key}={value}' for key, value in changes.items())}")
        for name, all_changes in table.items()
        for changes in all_changes
    ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """For each network: a folder of the library, and what the library gives for it."""
    made = {}
    for name, spec in SPECS.items():
        folder, theirs = tmp_path_factory.mktemp(name.replace(" ", "-")), oracle(spec)
        theirs.save_pretrained(folder)
        made[name] = folder, library_output(spec, folder)
    return made


def library_output(spec, folder):
    model = oracle_class(spec).from_pretrained(folder).eval()
    with torch.inference_mode():
        outputs = model(PIXELS)
    return outputs.predicted_depth if spec.task == "depth" else outputs.logits


def changed(folder, target, changes):
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        place = config["backbone_config"] if key.startswith(BIT) else config
        name = key.removeprefix(BIT)
        if value is ...:
            del place[name]
        else:
            place[name] = value
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config))
    (target / "model.safetensors").symlink_to(folder / "model.safetensors")
    return target


def same_output(spec, folder, wanted):
    """The library gives the same for ``folder``; False too where it fails."""
    try:
        found = library_output(spec, folder)
    except Exception:  # noqa: BLE001 - whatever the library raises, it is not the same output
        return False
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), cases(SAME))
def test_an_entry_without_effect_in_the_library_has_none_here(name, changes, sources, tmp_path):
    spec, (folder, wanted) = SPECS[name], sources[name]
    source = changed(folder, tmp_path / "changed", changes)
    assert same_output(spec, source, wanted)
    ours, _ = load_weights(spec, source)
    with torch.inference_mode():
        assert distance(ours(PIXELS), wanted) <= MAX_OF_RANGE


@pytest.mark.parametrize(("name", "changes"), cases(OTHER))
def test_an_entry_that_changes_the_network_is_refused_by_name(name, changes, sources, tmp_path):
    spec, (folder, wanted) = SPECS[name], sources[name]
    source = changed(folder, tmp_path / "changed", changes)
    assert not same_output(spec, source, wanted)
    with pytest.raises(BadFileError, match=r"config\.json has ") as caught:
        load_weights(spec, source)
    assert caught.value.hint


def test_a_hybrid_folder_with_the_library_s_default_indices_loads(tmp_path):
    config = transformers.DPTConfig(
        is_hybrid=True,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=128,
        image_size=64,
        neck_hidden_sizes=[128, 256, 24, 28],
        fusion_hidden_size=16,
        backbone_featmap_shape=[1, 128, 4, 4],
        backbone_config={
            "global_padding": "same",
            "layer_type": "bottleneck",
            "depths": [1, 1, 1],
            "hidden_sizes": [128, 256, 128],
            "embedding_size": 32,
            "out_features": ["stage1", "stage2", "stage3"],
            "embedding_dynamic_padding": True,
        },
    )
    assert config.backbone_out_indices == (2, 5, 8, 11)
    torch.manual_seed(0)
    theirs = transformers.DPTForDepthEstimation(config).eval()
    with torch.no_grad():
        theirs.head.head[4].bias += 5
    theirs.save_pretrained(tmp_path)
    encoder = replace(SMALL_HYBRID.encoder, depth=12, stage_blocks=(1, 1, 1), weight_standardisation="sum")
    spec = replace(SMALL_HYBRID, encoder=encoder, taps=("stage0", "stage1", 8, 11))
    ours, _ = load_weights(spec, tmp_path)
    with torch.inference_mode():
        assert torch.allclose(ours(PIXELS), theirs(PIXELS).predicted_depth, rtol=1e-5, atol=1e-5)
    assert (ours.spec.encoder.norm_eps, ours.spec.encoder.weight_standardisation) == (1e-12, "sqrt")


def test_blocks_after_the_last_tap_that_the_recipe_does_not_know_are_unused(tmp_path):
    longer = replace(SMALL_VIT, encoder=replace(SMALL_VIT.encoder, depth=6))
    oracle(longer).save_pretrained(tmp_path)
    ours, report = load_weights(SMALL_VIT, tmp_path)
    assert ours.spec.encoder.depth == 6
    assert ("dpt.encoder.layer.5.output.dense.bias", "block after the last tap (3)") in report.unused


@pytest.mark.parametrize("taps", [("stage1", "stage0", 1, 3), ("stage0", 1, 2, 3)])
def test_a_hybrid_recipe_with_other_taps_does_not_fit_a_folder(taps, sources):
    spec = replace(SMALL_HYBRID, taps=taps)
    with pytest.raises(BadFileError, match=r"config\.json has "):
        load_weights(spec, sources["hybrid"][0])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", -1.0),
        ("layer_norm_eps", True),
        ("layer_norm_eps", 10**400),
        ("image_size", 0),
        ("image_size", []),
        ("image_size", "384"),
        ("num_hidden_layers", "4"),
        ("backbone_config", [1]),
        ("backbone_config", "bit"),
        ("backbone_out_indices", {"a": 1}),
        ("reassemble_factors", 4),
        ("reassemble_factors", [1, 1, "1", None]),
        ("reassemble_factors", [1, 1, 1, 1e-320]),
        ("neck_hidden_sizes", 3),
        ("neck_ignore_stages", "01"),
        ("head_in_index", [1]),
        (f"{BIT}depths", "3"),
        (f"{BIT}hidden_sizes", {"a": [1]}),
        (f"{BIT}out_features", 7),
        (f"{BIT}global_padding", 1),
        (f"{BIT}output_stride", None),
    ],
)
def test_a_value_of_another_type_is_an_error_and_no_traceback(key, value, sources, tmp_path):
    source = changed(sources["hybrid"][0], tmp_path / "changed", {key: value})
    if value is None:  # stands for the default
        load_weights(SMALL_HYBRID, source)
        return
    with pytest.raises(BadFileError, match=f"config.json has {key.removeprefix(BIT)} = "):
        load_weights(SMALL_HYBRID, source)


def test_our_own_folder_states_what_it_needs(tmp_path):
    save_huggingface(random_model(SMALL_HYBRID), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["backbone_config"]["out_features"] == ["stage1", "stage2", "stage3"]
    assert config["backbone_config"]["hidden_act"] == "relu"
