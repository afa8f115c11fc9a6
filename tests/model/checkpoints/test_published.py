"""The table of published checkpoints: consistent, complete for the zoo, with a licence for each."""

import subprocess
import sys
from dataclasses import replace

import pytest

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.recipe import zoo_names
from dpt_deploy.model.checkpoints import published as module
from dpt_deploy.model.checkpoints.published import cache_folder, default_for, find, published, with_hash
from dpt_deploy.model.families.registry import family_named

pytestmark = pytest.mark.fast

# The published files, as far as the zoo goes.
PUBLISHED_FILES = {
    "dpt_large-midas-2f21e586.pt": ("large", "depth"),
    "dpt_hybrid-midas-501f0c75.pt": ("hybrid", "depth"),
    "dpt_large-ade20k-b12dca68.pt": ("large", "segmentation"),
    "dpt_hybrid-ade20k-53898607.pt": ("hybrid", "segmentation"),
    "dpt_hybrid_kitti-cb926ef4.pt": ("hybrid-kitti", "depth"),
    "dpt_hybrid_nyu-2ce69ec7.pt": ("hybrid-nyu", "depth"),
    "dpt_hybrid_nyu_new-217f207d.pt": ("hybrid-nyu", "depth"),
    "dpt_hybrid-midas-d889a10e.pt": ("hybrid", "depth"),
    "dpt_large-midas-b53ba79e.pt": ("large", "depth"),
    "dpt_hybrid-ade20k-a7d10e8d.pt": ("hybrid", "segmentation"),
    "dpt_large-ade20k-078062de.pt": ("large", "segmentation"),
    "dpt_hybrid-kitti-e7069aae.pt": ("hybrid-kitti", "depth"),
    "dpt_hybrid-nyu-b3a2ef48.pt": ("hybrid-nyu", "depth"),
    "dpt_large_384.pt": ("large", "depth"),
    "dpt_hybrid_384.pt": ("hybrid", "depth"),
    "midas_v21-f6b98070.pt": ("midas-v21", "depth"),
    "midas_v21_384.pt": ("midas-v21", "depth"),
    "dpt_beit_large_512.pt": ("beit-large-512", "depth"),
    "dpt_beit_large_384.pt": ("beit-large-384", "depth"),
    "dpt_beit_base_384.pt": ("beit-base-384", "depth"),
    "dpt_swin2_large_384.pt": ("swin2-large-384", "depth"),
    "dpt_swin2_base_384.pt": ("swin2-base-384", "depth"),
    "dpt_swin2_tiny_256.pt": ("swin2-tiny-256", "depth"),
    "dpt_swin_large_384.pt": ("swin-large-384", "depth"),
    "dpt_next_vit_large_384.pt": ("next-vit-large-384", "depth"),
    "dpt_levit_224.pt": ("levit-224", "depth"),
    "midas_v21_small-70d6b9c8.pt": ("midas-v21-small", "depth"),
    "midas_v21_small_256.pt": ("midas-v21-small", "depth"),
    "depth_anything_v2_vits.pth": ("da2-small", "depth"),
    "depth_anything_v2_vitb.pth": ("da2-base", "depth"),
    "depth_anything_v2_vitl.pth": ("da2-large", "depth"),
    "Depth-Anything-V2-Small-hf/model.safetensors": ("da2-small", "depth"),
    "depth_anything_v2_metric_hypersim_vits.pth": ("da2-small-indoor", "depth"),
    "depth_anything_v2_metric_hypersim_vitb.pth": ("da2-base-indoor", "depth"),
    "depth_anything_v2_metric_hypersim_vitl.pth": ("da2-large-indoor", "depth"),
    "depth_anything_v2_metric_vkitti_vits.pth": ("da2-small-outdoor", "depth"),
    "depth_anything_v2_metric_vkitti_vitb.pth": ("da2-base-outdoor", "depth"),
    "depth_anything_v2_metric_vkitti_vitl.pth": ("da2-large-outdoor", "depth"),
    "depth_anything_vits14.pth": ("da1-small", "depth"),
    "depth_anything_vitb14.pth": ("da1-base", "depth"),
    "depth_anything_vitl14.pth": ("da1-large", "depth"),
    "depth-anything-small-hf/model.safetensors": ("da1-small", "depth"),
    "depth-anything-base-hf/model.safetensors": ("da1-base", "depth"),
    "depth-anything-large-hf/model.safetensors": ("da1-large", "depth"),
    "DA3METRIC-LARGE.safetensors": ("da3-metric", "depth"),
    "DA3MONO-LARGE.safetensors": ("da3-mono", "depth"),
    "FocusOnDepth_vit_base_patch16_384.p": ("focus-base", "depth"),
    **{
        f"dpt-dinov2-{size}-{data}/model.safetensors": (f"dpt-dinov2-{size}-{data}", "depth")
        for size in ("small", "base", "large", "giant")
        for data in ("nyu", "kitti")
    },
}
AUTHORS = (
    "https://github.com/isl-org/",
    "https://huggingface.co/depth-anything/",
    "https://huggingface.co/spaces/LiheYoung/",
)


def test_the_table_has_every_published_file_that_the_zoo_can_build():
    assert {entry.file: (entry.recipe, entry.task) for entry in published()} == PUBLISHED_FILES


@pytest.mark.parametrize("entry", published(), ids=lambda entry: entry.file)
def test_every_entry_is_consistent(entry):
    assert entry.recipe in zoo_names()
    assert family_named(entry.family) is not None
    assert entry.address == "" or entry.address.startswith(AUTHORS)
    assert len(entry.sha256) in (64, 8, 0)
    assert entry.checked == {64: "64 digits", 8: "8 digits", 0: "length"}[len(entry.required_sha256)]
    assert entry.size_bytes == 0 or entry.size_bytes > 10_000_000
    assert "licence" in entry.training_data
    assert not entry.default or entry.address
    assert find(entry.file) == find(entry.name) == entry


@pytest.mark.parametrize("entry", published(), ids=lambda entry: entry.file)
def test_what_is_not_for_commercial_use_is_marked_and_never_a_default(entry):
    restricted = "NC" in entry.licence
    assert restricted == (entry.commercial == "no")
    assert not (restricted and entry.default)
    if entry.licence == "MIT":
        assert entry.commercial == "unclear"  # the licence permits what the training data forbid


@pytest.mark.parametrize("entry", [each for each in published() if each.family == "isl-org/DPT"], ids=lambda e: e.file)
def test_names_of_torch_hub_have_the_digits_of_their_hash(entry):
    assert f"-{entry.sha256[:8]}.pt" in entry.file or "-" not in entry.file
    assert entry.sha256 or "-" not in entry.file
    assert entry.address == "" or entry.address.endswith(f"/{entry.file}")


FULL = {
    "2f21e586477d90cb9624c7eef5df7891edca49a1c4795ee2cb631fd4daa6ca69": (
        "dpt_large-midas-2f21e586.pt",
        "dpt_large_384.pt",
    ),
    "501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853": ("dpt_hybrid-midas-501f0c75.pt",),
    "f6b980704cfd7259c7cc2b058c2f160159c55e84b3b6c08331b4156a84629f70": ("midas_v21-f6b98070.pt", "midas_v21_384.pt"),
}


def test_full_hashes_are_those_that_others_pin():
    found = {file: digest for digest, files in FULL.items() for file in files}
    ours = [entry for entry in published() if entry.family.startswith("isl-org/") and len(entry.sha256) == 64]
    assert {entry.file: entry.sha256 for entry in ours} == found


def test_one_hash_is_one_network():
    networks = {}
    for entry in published():
        if len(entry.sha256) == 64:
            networks.setdefault(entry.sha256, set()).add((entry.recipe, entry.task))
    assert {len(found) for found in networks.values()} == {1}
    assert len(networks) >= 16


def test_hashes_that_only_others_state_are_marked():
    """Read from mirrors; the others of Depth Anything from the pointers of its authors."""
    marked = {entry.file for entry in published() if entry.second_hand}
    assert marked == {"depth_anything_v2_vitl.pth", "depth_anything_vits14.pth", "DA3METRIC-LARGE.safetensors"}
    unknown = {entry.file for entry in published() if not entry.sha256 and entry.family.startswith("Depth Anything")}
    assert unknown == {"depth_anything_v2_metric_hypersim_vits.pth", "DA3MONO-LARGE.safetensors"}


def test_a_file_is_recognised_by_its_hash():
    assert with_hash(next(iter(FULL))).file == "dpt_large-midas-2f21e586.pt"
    assert with_hash("cb926ef4" + "0" * 56).file == "dpt_hybrid_kitti-cb926ef4.pt"
    assert with_hash("0" * 64) is None


def test_at_most_one_default_for_a_recipe_and_task():
    defaults = [(entry.recipe, entry.task) for entry in published() if entry.default]
    assert len(defaults) == len(set(defaults)) >= 14


@pytest.mark.parametrize("recipe", ["base", "deit-distilled", "resnet50", "resnext101"])
def test_a_network_without_a_published_checkpoint_says_so(recipe):
    with pytest.raises(UsageError, match=f"no depth checkpoint of '{recipe}' was published") as caught:
        default_for(recipe, "depth")
    assert "--weights random" in caught.value.hint


def test_weights_that_are_a_folder_are_fetched_by_hand():
    with pytest.raises(UsageError, match="the folder dpt-dinov2-small-nyu of Hugging Face") as caught:
        default_for("dpt-dinov2-small-nyu", "depth")
    assert "--weights FOLDER" in caught.value.hint


def test_weights_under_a_restricted_licence_are_taken_by_name_only(monkeypatch):
    restricted = replace(default_for("hybrid", "depth"), default=False, licence="CC-BY-NC-4.0", commercial="no")
    monkeypatch.setattr(module, "published", lambda: (restricted,))
    with pytest.raises(UsageError, match=r"CC-BY-NC-4\.0 \(commercial use: no\), so they are taken by name") as caught:
        default_for("hybrid", "depth")
    assert f"--weights {restricted.file}" in caught.value.hint


def test_an_unknown_name_is_not_found():
    assert find("dpt_hybrid.pt") is None


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DPT_DEPLOY_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "weights"
    monkeypatch.delenv("DPT_DEPLOY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "dpt-deploy" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dpt-deploy" / "weights"


def test_torch_is_not_imported():
    code = "import sys, dpt_deploy.model.checkpoints.published; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
