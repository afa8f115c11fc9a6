"""An artefact is what its sidecar says, or it is refused in one line before anything is deserialised."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from support.faults.handmade import NAME, SIDECAR, handmade, listing, payloads

from dpt_deploy.artifact.records import CaseResult, ParityRecord, Shapes
from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.staging import commit, staged
from dpt_deploy.artifact.store import open_artifact, record, sidecar_path, write_sidecar
from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.core.recipe import load_recipe

pytestmark = pytest.mark.fast

TOLERANCE = SIDECAR.outputs[0].tolerance


def refused(path, match):
    with pytest.raises(BadFileError, match=match) as caught:
        open_artifact(path)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def changed(artifact, change):
    """Apply ``change`` to the sidecar's JSON."""
    data = json.loads(sidecar_path(artifact.path).read_text())
    change(data)
    sidecar_path(artifact.path).write_text(json.dumps(data))
    return artifact.path


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_sidecar_comes_back_as_it_was(tmp_path):
    assert handmade(tmp_path).sidecar == payloads(tmp_path, "old")
    parity = ParityRecord(
        True,
        False,
        "ort",
        {"predicted_depth": TOLERANCE},
        (CaseResult(1, "64x96", True, max=1e-6, mean=1e-7, output="predicted_depth"),),
    )
    static = replace(SIDECAR, golden="", parity=parity, shapes=Shapes(32, (64, 96)))
    assert Sidecar.from_json(static.to_json()) == static


@pytest.mark.parametrize(
    ("name", "match"),
    [("no.onnx", "does not exist"), ("", "is a folder"), (f"{NAME}.json", "is the sidecar"), ("a" * 300, "too long")],
    ids=["absent", "folder", "sidecar", "long"],
)
def test_what_is_not_the_model_is_named_for_what_it_is(name, match, tmp_path):
    handmade(tmp_path)
    refused(tmp_path / name, match)


def test_a_folder_names_its_models(tmp_path):
    handmade(tmp_path)
    with pytest.raises(BadFileError) as caught:
        open_artifact(tmp_path)
    assert NAME in caught.value.hint


RAW = {
    "empty": (b"", "not JSON"),
    "text": (b"hello", "not JSON"),
    "cut": (b'{"format": 1, "kind": "on', "not JSON"),
    "bytes": (b"\xff\xfe\x00\x80", "not JSON"),
    "list": (b"[1]", "format is None"),
    "nested": (b"[" * 200_000, "nested too deeply"),
    "newer": (b'{"format": 3}', "format is 3; this program reads 1 to 2"),
    "bare": (b'{"format": 2}', "is missing"),
    "number": (b'{"format": ' + b"9" * 5000 + b"}", "not JSON"),
}


@pytest.mark.parametrize(("raw", "match"), RAW.values(), ids=RAW)
def test_a_damaged_sidecar_is_refused(raw, match, tmp_path):
    path = handmade(tmp_path).path
    sidecar_path(path).write_bytes(raw)
    refused(path, match)


def test_a_sidecar_of_100_megabytes_is_refused_unread(tmp_path):
    path = handmade(tmp_path).path
    os.truncate(sidecar_path(path), 100_000_000)
    refused(path, "has 100,000,000 bytes")


CHANGES = {
    "above": (lambda d: d["payloads"][1].update(name="../x"), r"payloads\[1\].name is '../x'; it has a separator"),
    "absolute": (lambda d: d["payloads"][1].update(name="/etc/passwd"), "name is '/etc/passwd'; it has a separator"),
    "windows": (lambda d: d["payloads"][1].update(name="..\\x"), "it has a separator"),
    "dots": (lambda d: d["payloads"][1].update(name=".."), "it starts with a dot"),
    "parent": (
        lambda d: d.update(parents=[{"name": "a/b", "sha256": "", "size_bytes": 0}]),
        r"parents\[0\].name is 'a/b'",
    ),
    "golden": (lambda d: d.update(golden="../../x"), "golden is '../../x'; it has a separator"),
    "number": (lambda d: d["payloads"][0].update(name=5), r"payloads\[0\].name is 5; expected str"),
    "size": (lambda d: d["payloads"][0].update(size_bytes="7"), r"payloads\[0\].size_bytes is '7'; expected int"),
    "no hash": (lambda d: d["payloads"][0].pop("sha256"), r"payloads\[0\].sha256 is missing"),
    "no model": (lambda d: d.pop("model"), "model is missing"),
    "task": (lambda d: d["model"].update(task="pose"), "model.task is 'pose'; expected depth or segmentation"),
    "tap": (lambda d: d["model"].update(taps=[0, 1, 2, 3.5]), r"model.taps\[3\] is 3.5; expected int or str"),
    "mean": (lambda d: d["image"].update(mean=[0.5]), "image.mean has 1 entries; expected 3"),
    "golden elsewhere": (lambda d: d.update(golden="other.npz"), "golden 'other.npz' is not among"),
    "device": (lambda d: d["payloads"][1].update(name="NUL.data"), "it is a device of Windows"),
    "escape": (lambda d: d["payloads"][1].update(name="a\x1b]0;x"), "it has a control character"),
    "long name": (lambda d: d["payloads"][1].update(name="n" * 256), "it has 256 bytes, more than 255"),
    "stride": (lambda d: d["shapes"].update(stride=0), "shapes.stride is 0; expected at least 1"),
    "digits": (lambda d: d["payloads"][0].update(size_bytes=10**400), "expected a smaller number"),
    "nan": (lambda d: d["outputs"][0]["tolerance"].update(max=float("nan")), "max is nan; expected a finite number"),
    "infinite": (lambda d: d["image"].update(mean=[0.5, 0.5, float("inf")]), "expected a finite number"),
    "negative tolerance": (
        lambda d: d["outputs"][0]["tolerance"].update(mean=-1.0),
        "mean is -1.0; expected at least 0",
    ),
    "std": (lambda d: d["image"].update(std=[0.5, 0.0, 0.5]), r"image.std\[1\] is 0.0; expected more than 0"),
    "width": (lambda d: d["image"].update(width=-1), "image.width is -1; expected at least 1"),
    "heads": (lambda d: d["model"]["encoder"].update(heads=3), "3 heads of a width of 32"),
    "surrogate": (lambda d: d["tools"].update(torch="\ud800"), "expected valid Unicode"),
    "null": (lambda d: d["weights"].update(path="a\0b"), "expected valid Unicode without null"),
    "dtype": (lambda d: d["outputs"][0].update(dtype="object"), "dtype of 'predicted_depth' is 'object'"),
    "deep": (lambda d: d["tools"].update(torch=json.loads("[" * 100 + "]" * 100)), "nested more than 64 levels"),
    "static": (lambda d: d["shapes"].update(static=[64]), "shapes.static has 1 entries; expected 2"),
    "inputs": (lambda d: d.update(inputs=2 * d["inputs"]), "expected one input"),
    "outputs": (lambda d: d.update(outputs=[]), "expected one input, and one or more outputs"),
    "output twice": (lambda d: d.update(outputs=2 * d["outputs"]), "of different names"),
    "output's task": (lambda d: d["outputs"][0].update(task="pose"), "task 'pose' is unknown; expected one of depth"),
    "output's rank": (lambda d: d["outputs"][0].update(shape=["batch"]), "has 1 dimensions; task 'depth' has 3"),
    "tolerance": (lambda d: d["outputs"][0]["tolerance"].update(max=None), r"tolerance.max is None; expected float"),
    "matrix": (lambda d: d["verify"].update(res=5), "verify.res is 5; expected a list"),
    "parity": (lambda d: d.update(parity={"cases": 1}), "parity.[a-z]+ is missing"),
    "tools": (lambda d: d.update(tools=["torch"]), "tools is .*; expected an object"),
}


@pytest.mark.parametrize(("change", "match"), CHANGES.values(), ids=CHANGES)
def test_a_sidecar_with_a_wrong_entry_is_refused_and_the_entry_named(change, match, tmp_path):
    refused(changed(handmade(tmp_path), change), match)


@pytest.mark.parametrize("source", ["hf-hub:timm/resnet18", "local-dir:/etc", "resnet18/../x"])
def test_a_network_of_timm_from_another_source_is_refused(source, tmp_path):
    path = handmade(tmp_path).path
    model = load_recipe("tiny-conv").model
    write_sidecar(path, replace(payloads(tmp_path, "old"), model=model))
    assert open_artifact(path).sidecar.model == model
    changed(open_artifact(path), lambda d: d["model"]["encoder"].update(timm_name=source))
    refused(path, "timm_name is .*expected the plain name of an architecture of timm")


def test_a_key_of_a_later_version_is_left_out(tmp_path):
    path = changed(handmade(tmp_path), lambda d: (d.update(later=1), d["image"].update(later=1)))
    assert open_artifact(path).sidecar == payloads(tmp_path, "old")


# --- payloads ---------------------------------------------------------------------------------------------------------

SPOILED = {
    "missing": (lambda file: file.unlink(), "is missing from the artefact"),
    "cut": (lambda file: os.truncate(file, 3), "has 3 bytes, its sidecar says"),
    "longer": (lambda file: file.write_bytes(file.read_bytes() + b"x"), "bytes, its sidecar says"),
    "one bit": (lambda file: file.write_bytes(file.read_bytes().swapcase()), "does not match its sidecar"),
}


@pytest.mark.parametrize("suffix", [".data", ".golden.npz"])
@pytest.mark.parametrize(("spoil", "match"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_payload_is_refused(spoil, match, suffix, tmp_path):
    path = handmade(tmp_path).path
    spoil(path.with_name(path.name + suffix))
    refused(path, match)


def test_a_swapped_data_file_is_refused(tmp_path):
    mine, other = handmade(tmp_path / "mine", "old"), handmade(tmp_path / "other", "new")
    data = f"{NAME}.data"
    mine.path.with_name(data).write_bytes(other.path.with_name(data).read_bytes())
    refused(mine.path, "does not match its sidecar")
    open_artifact(other.path)


def test_a_renamed_model_is_refused_with_and_without_its_sidecar(tmp_path):
    path = handmade(tmp_path).path
    renamed = path.rename(tmp_path / "best.onnx")
    refused(renamed, "has no sidecar best.onnx.json: it is unfinished, or was moved")
    sidecar_path(path).rename(sidecar_path(renamed))
    refused(renamed, f"describes {NAME}, .*, not this file")


def test_hashes_may_be_left_unchecked_but_never_sizes(tmp_path):
    path = handmade(tmp_path).path
    data = path.with_name(f"{NAME}.data")
    data.write_bytes(data.read_bytes().swapcase())
    open_artifact(path, check_hashes=False)
    os.truncate(data, 3)
    with pytest.raises(BadFileError, match="has 3 bytes"):
        open_artifact(path, check_hashes=False)


SIDECAR_AND_PAYLOADS = [NAME, f"{NAME}.data", f"{NAME}.golden.npz", f"{NAME}.json"]


# --- making -----------------------------------------------------------------------------------------------------------


def made(path, content="new"):
    """Make an artefact whose payloads hold ``content``; an exception is raised after they are written."""
    with staged(path) as folder:
        sidecar = payloads(folder, str(content))
        if isinstance(content, BaseException):
            raise content
        return commit(path, folder, sidecar)


def test_what_was_staged_is_committed_and_the_folder_is_gone(tmp_path):
    made(tmp_path / "a" / "b" / NAME)
    assert open_artifact(tmp_path / "a" / "b" / NAME).sidecar == handmade(tmp_path / "same", "new").sidecar
    assert sorted(listing(tmp_path / "a" / "b")) == sorted(listing(tmp_path / "same"))


def test_a_failure_leaves_nothing_not_even_the_folders_made_for_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "a" / "b" / NAME, KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_an_older_artefact_as_it_was(tmp_path):
    handmade(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(ResourceError):
        made(tmp_path / NAME, ResourceError("full"))
    assert listing(tmp_path) == before


def test_payloads_that_the_new_artefact_lacks_are_removed(tmp_path):
    handmade(tmp_path)
    with staged(tmp_path / NAME) as folder:
        sidecar = payloads(folder, "new")
        kept = tuple(payload for payload in sidecar.payloads if not payload.name.endswith(".data"))
        commit(tmp_path / NAME, folder, replace(sidecar, payloads=kept))
    assert sorted(listing(tmp_path)) == [NAME, f"{NAME}.golden.npz", f"{NAME}.json"]
    open_artifact(tmp_path / NAME)


@pytest.mark.parametrize("suffix", ["", ".json", ".golden.npz"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_moves(suffix, tmp_path):
    (tmp_path / (NAME + suffix)).mkdir()
    with pytest.raises(UsageError, match=r"is a folder; a file .*belongs there"):
        made(tmp_path / NAME)
    assert listing(tmp_path) == {}


def test_two_exports_of_one_artefact_do_not_meet(tmp_path):
    with staged(tmp_path / NAME) as folder:
        sidecar = payloads(folder, "first")
        with pytest.raises(ResourceError, match="is being written by another process"):
            made(tmp_path / NAME, "second")
        made(tmp_path / "elsewhere" / NAME, "second")
        commit(tmp_path / NAME, folder, sidecar)
    assert (tmp_path / NAME).read_text().startswith("first")
    made(tmp_path / NAME, "third")
    assert (tmp_path / NAME).read_text().startswith("third")


def test_two_artefacts_are_made_in_one_folder_at_once(tmp_path):
    with staged(tmp_path / "other.onnx") as folder:
        payloads(folder, "other")
        made(tmp_path / NAME)
        assert folder.is_dir()
    open_artifact(tmp_path / NAME)


def test_exports_that_come_and_go_at_once_fail_for_no_other_reason(tmp_path):
    path = tmp_path / "a" / "b" / NAME

    def export(number):
        if number % 2:
            return made(path, ValueError("fails, and takes its folders along"))
        return made(path)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(export, number) for number in range(200)]
        errors = [future.exception() for future in futures]
    assert [str(e) for e in errors if e and "fails, and" not in str(e) and "by another process" not in str(e)] == []
    assert None in errors
    open_artifact(path)
    assert len(list(path.parent.iterdir())) == len(SIDECAR_AND_PAYLOADS)


def test_what_a_killed_run_left_is_cleared(tmp_path):
    left = tmp_path / f".{NAME}.partial"
    (left / "deep").mkdir(parents=True)
    (left / "lock").touch()
    (left / "half.onnx").write_bytes(b"half")
    with staged(tmp_path / NAME) as folder:
        assert sorted(entry.name for entry in folder.iterdir()) == ["lock"]
    assert list(tmp_path.iterdir()) == []


# --- recording --------------------------------------------------------------------------------------------------------


def test_numbers_are_recorded_in_the_sidecar(tmp_path):
    artifact = handmade(tmp_path)
    changed_sidecar = replace(artifact.sidecar, weights=WeightsSource("random", seed=7))
    assert record(artifact, changed_sidecar).sidecar == changed_sidecar
    assert open_artifact(artifact.path).sidecar == changed_sidecar


def test_numbers_of_an_artefact_that_was_replaced_meanwhile_are_not_recorded(tmp_path):
    artifact = handmade(tmp_path, "old")
    handmade(tmp_path, "new")
    before = listing(tmp_path)
    with pytest.raises(BadFileError, match="was exported again meanwhile"):
        record(artifact, artifact.sidecar)
    assert listing(tmp_path) == before


def test_the_sidecar_is_the_commit_mark(tmp_path):
    sidecar = payloads(tmp_path, "new")
    refused(tmp_path / NAME, "has no sidecar .*: it is unfinished")
    write_sidecar(tmp_path / NAME, sidecar)
    open_artifact(tmp_path / NAME)
