"""Licence, commercial use and training data of weights: said at fetch, recorded, and enforced by ``--commercial``."""

import json
from dataclasses import replace

import pytest
from support.faults.handmade import handmade
from support.reporting import recording

from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.common import weights as module
from dpt_deploy.jobs.common.weights import check_commercial, check_network, resolve_weights, settle_terms, terms
from dpt_deploy.model.checkpoints import published

pytestmark = pytest.mark.fast

HYBRID = "hybrid"
DATA = "photographs that may not be sold"


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """A published file whose fetch returns a path at once."""
    known = published.default_for(HYBRID, "depth")
    monkeypatch.setattr(module, "fetch", lambda found: tmp_path / found.file)

    def publish(**changes):
        changed = replace(known, **changes)
        monkeypatch.setattr(published, "default_for", lambda _recipe, _task: changed)
        monkeypatch.setattr(published, "with_hash", lambda _hash: changed)
        return changed

    return publish


@pytest.mark.parametrize(
    ("sha256", "checked", "said"),
    [
        ("5" * 64, "64 digits", "checked by all 64 digits of its SHA-256"),
        ("5" * 8, "8 digits", "checked by 8 digits of its SHA-256, since no more are published"),
        ("", "length", "checked by its length, since no hash is published"),
    ],
)
def test_the_check_and_the_terms_are_said_and_recorded(sha256, checked, said, entry):
    known = entry(sha256=sha256)
    with recording() as reporter:
        source = resolve_weights(None, load_recipe(HYBRID))
    assert any(said in line for line in reporter.lines)
    assert f"{known.file}: {terms(source)}" in reporter.lines
    assert (source.checked, source.commercial, source.licence) == (checked, "unclear", "MIT")
    assert "for research only" in source.training_data


def test_weights_that_may_not_be_sold_are_refused_before_they_are_fetched(entry, monkeypatch):
    entry(commercial="no", training_data=DATA)
    monkeypatch.setattr(module, "fetch", lambda _found: pytest.fail("fetched"))
    with pytest.raises(UsageError, match=f"may not be used commercially: .*{DATA}") as caught:
        resolve_weights(None, load_recipe(HYBRID), commercial=True)
    assert caught.value.exit_code == 2
    assert "--commercial" in caught.value.hint


def test_without_the_option_they_are_taken(entry):
    entry(commercial="no", training_data=DATA)
    assert resolve_weights(None, load_recipe(HYBRID)).commercial == "no"


def test_unclear_terms_are_a_warning(entry):
    entry()
    with recording() as reporter:
        resolve_weights(None, load_recipe(HYBRID), commercial=True)
    assert [line for line in reporter.lines if line.startswith("warning: ") and "satisfy yourself" in line]


@pytest.mark.parametrize("text", ["random", None])
def test_random_and_shipped_weights_are_free(text):
    with recording() as reporter:
        source = resolve_weights(text, load_recipe("tiny"), commercial=True)
    assert source.commercial == "yes"
    assert not [line for line in reporter.lines if "warning" in line]


def test_a_user_s_file_is_recognised_by_its_hash(entry, tmp_path):
    (tmp_path / "mine.pt").touch()
    source = resolve_weights(str(tmp_path / "mine.pt"), load_recipe(HYBRID), commercial=True)
    assert (source.commercial, source.licence) == ("unclear", "")
    entry(commercial="no", training_data=DATA)
    with pytest.raises(UsageError, match=r"mine\.pt may not be used commercially"):
        settle_terms(replace(source, sha256="5" * 64), commercial=True)
    assert settle_terms(source, commercial=False).training_data == DATA


@pytest.mark.parametrize("text", ["a" * 5000 + ".pt", "a\0b.pt", "loop"])
def test_a_name_that_can_be_no_file_is_no_file(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadFileError, match="no such file, and no published checkpoint of that name"):
        resolve_weights(text, load_recipe(HYBRID))


def test_a_sidecar_of_an_earlier_version_loads_without_terms(tmp_path):
    sidecar = handmade(tmp_path).sidecar
    written = json.loads(sidecar.to_json())
    for name in ("entry", "commercial", "training_data", "checked"):
        del written["weights"][name]
    assert Sidecar.from_json(json.dumps(written)) == sidecar


def test_terms_that_are_not_recorded_are_unclear():
    source = WeightsSource("published", path="a.pt")
    assert terms(source) == "licence not known; commercial use not recorded"
    with recording() as reporter:
        check_commercial(source)
    assert "warning" in reporter.lines[0]


# --- files that only their hash tells apart ---------------------------------------------------------------------------

NYU, KITTI = "hybrid-nyu", "hybrid-kitti"  # the same keys and shapes
SOURCE = WeightsSource("file", path="mine.pt", sha256="5" * 64)


@pytest.fixture
def known_as_nyu(monkeypatch):
    """A table in which the file is the one published for ``hybrid-nyu``."""
    known = replace(published.default_for(NYU, "depth"), sha256=SOURCE.sha256)
    monkeypatch.setattr(published, "published", lambda: (known,))


def said_of(spec):
    with recording() as reporter:
        check_network(spec, SOURCE)
    return reporter.lines


@pytest.mark.usefixtures("known_as_nyu")
def test_a_published_file_under_another_recipe_is_refused():
    with pytest.raises(BadFileError, match=f"{NYU!r}; it was asked for as {KITTI!r}") as caught:
        check_network(load_recipe(KITTI).model, SOURCE)
    assert caught.value.hint == f"use --backbone {NYU}"


@pytest.mark.usefixtures("known_as_nyu")
def test_under_its_own_recipe_or_another_name_of_that_network_it_is_taken():
    own = load_recipe(NYU).model
    assert said_of(own) == said_of(replace(own, name="mine")) == []
    planted = replace(own, name="control", encoder=replace(own.encoder, position_resize="tiled"))
    assert said_of(planted) == []  # the control of a study
    assert (
        said_of(replace(own, encoder=replace(own.encoder, norm_eps=1e-5))) == []
    )  # as a folder's configuration sets it


@pytest.mark.usefixtures("known_as_nyu")
@pytest.mark.parametrize("name", [KITTI, "mine"])
def test_a_changed_network_is_a_warning(name):
    model = load_recipe(KITTI).model
    changed = replace(model, name=name, metric=replace(model.metric, shift=0.5))
    assert "describes another network" in said_of(changed)[0]


def test_an_unknown_file_is_taken_under_any_recipe():
    assert said_of(load_recipe(KITTI).model) == []


def test_every_check_has_its_sentence():
    assert {entry.checked for entry in published.published()} <= set(module._CHECKS)


def test_classes_alone_of_a_network_with_joint_weights_are_refused_with_what_to_do():
    with pytest.raises(UsageError, match="depth and classes in one network, not for classes alone") as caught:
        resolve_weights(None, load_recipe("tiny-both", task="segmentation"))
    assert "--task both" in caught.value.hint
    assert resolve_weights("random", load_recipe("tiny-both", task="segmentation")).is_random
    assert resolve_weights(None, load_recipe("tiny-both", task="depth")).kind == "shipped"


@pytest.mark.parametrize("task", ["depth", "segmentation", "both"])
def test_a_file_of_two_tasks_is_taken_for_each_and_for_both(task, monkeypatch):
    known = replace(published.find("FocusOnDepth_vit_base_patch16_384.p"), sha256=SOURCE.sha256)
    monkeypatch.setattr(published, "published", lambda: (known,))
    own = load_recipe("focus-base", task=task).model
    assert said_of(own) == []
    (warning,) = said_of(replace(own, taps=(0, 1, 2, 3)))
    assert "its numbers may mean nothing" in warning
