"""Manifests: kills in the middle of a line, other files, two writers."""

import json
from dataclasses import replace

import pytest
from support.disks import full_disk

from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.jobs.predict.archive.manifest import Manifest, ManifestRow

pytestmark = pytest.mark.fast

ROW = ManifestRow("a/1.jpg", 10, 20, "ab", "done", "", "cd", {"formats": ["pfm"]}, "ef", {"a/1.pfm": 30})
OTHER = replace(ROW, path="a/0.jpg")


def paths(file):
    return [json.loads(line)["path"] for line in file.read_text().splitlines()]


def killed(path, *rows):
    """Write a manifest as a process leaves it that is killed."""
    manifest = Manifest(path, resume=False).__enter__()
    for row in rows:
        manifest.add(row)
    manifest.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    return path


def test_a_row_survives_the_trip_through_its_line():
    assert ManifestRow.from_json(ROW.to_json()) == ROW
    strange = replace(ROW, path="\udc80\n.jpg", message='"\\')
    assert "\n" not in strange.to_json()
    assert ManifestRow.from_json(strange.to_json()) == strange


def test_every_cut_of_the_last_line_is_ignored_and_not_continued(tmp_path):
    path = tmp_path / "m.jsonl"
    whole = killed(path, OTHER, ROW).read_bytes()
    first = whole.index(b"\n") + 1
    for length in (*range(1, len(whole), 17), first - 1, first):
        path.write_bytes(whole[:length])
        with Manifest(path, resume=True) as manifest:
            assert set(manifest.rows) == ({"a/0.jpg"} if length >= first - 1 else set())
            manifest.add(ROW)
        assert paths(path)[-1] == "a/1.jpg"


def test_the_last_line_of_an_image_counts_and_the_end_leaves_one_each(tmp_path):
    path = killed(tmp_path / "m.jsonl", ROW, OTHER, replace(ROW, status="failed", message="bad"))
    assert paths(path) == ["a/1.jpg", "a/0.jpg", "a/1.jpg"]
    with Manifest(path, resume=True) as manifest:
        assert manifest.rows["a/1.jpg"].status == "failed"
    assert paths(path) == ["a/0.jpg", "a/1.jpg"]


def test_a_manifest_that_exists_is_continued_only_if_asked(tmp_path):
    path = killed(tmp_path / "m.jsonl", ROW)
    with pytest.raises(UsageError, match="exists") as caught, Manifest(path, resume=False):
        pass
    assert "--resume" in caught.value.hint
    assert paths(path) == ["a/1.jpg"]


@pytest.mark.parametrize("text", ["notes\n", "notes", '{"path": 1}\n[]\n', '{"a": 1}\n'])
def test_a_file_of_another_kind_is_left_alone(text, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(BadFileError, match="not a manifest"), Manifest(path, resume=True):
        pass
    assert path.read_text() == text


def test_two_processes_do_not_write_to_one_manifest(tmp_path):
    path = tmp_path / "m.jsonl"
    with Manifest(path, resume=True), pytest.raises(UsageError, match="another run"), Manifest(path, resume=True):
        pass
    with Manifest(path, resume=True):
        pass


@pytest.mark.parametrize(
    "wrong", [{"status": "fine"}, {"size_bytes": "1"}, {"outputs": {"a": "b"}}, {"outputs": 3}, {"options": 3}]
)
def test_a_line_of_another_form_is_no_row(wrong):
    assert ManifestRow.from_json(json.dumps(json.loads(ROW.to_json()) | wrong)) is None
    assert ManifestRow.from_json("[" * 100_000) is None


def test_a_full_disk_is_an_error_and_keeps_the_rows(tmp_path):
    path = killed(tmp_path / "m.jsonl", ROW)
    before = path.read_bytes()
    with full_disk(len(before) + 40), pytest.raises(ResourceError), Manifest(path, resume=True) as manifest:
        manifest.add(OTHER)
    assert path.read_bytes().startswith(before)
    with Manifest(path, resume=True) as manifest:
        assert set(manifest.rows) == {"a/1.jpg"}
