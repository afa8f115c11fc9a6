"""Files that replace others together: a kill at any moment leaves, after the next run, the former or the new whole."""

import errno
import json
import shutil

import pytest
from support.faults.handmade import listing
from support.faults.kills import killed_everywhere

from dpt_deploy.artifact.commit import FileSet, commit_files, recover, stage_of, staged_files
from dpt_deploy.core.errors import ResourceError, UsageError

pytestmark = pytest.mark.fast

FORMER = {"a": b"old a", "b": b"old b", "gone": b"old", "mark": b"old mark", "other": b"not ours"}
NEW = {"a": b"new a, longer", "b": b"new b", "mark": b"new mark", "other": b"not ours"}
NAMES = ["a", "b", "mark"]


def former(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in FORMER.items():
        (folder / name).write_bytes(data)


def write(folder):
    with staged_files(folder, "set") as stage:
        for name in NAMES:
            (stage / name).write_bytes(NEW[name])
        commit_files(FileSet(stage, NAMES, ["gone"]))


def test_files_replace_others_and_nothing_is_left(tmp_path):
    former(tmp_path / "out")
    write(tmp_path / "out")
    assert listing(tmp_path / "out") == NEW
    assert stage_of(tmp_path / "out", "set").exists() is False


def next_write(folder):
    """The next run, which writes something else: it finishes or clears what the last one left."""
    with staged_files(folder, "set"):
        pass


NEXT = {
    "writer": next_write,
    "reader": lambda folder: recover(folder, "set", FORMER.__contains__),
    "up to date": lambda folder: recover(folder, "set", lambda _name: True, clear=True),
}


@pytest.mark.parametrize("go_on", NEXT.values(), ids=NEXT)
def test_a_kill_at_any_moment_leaves_the_former_or_the_new(go_on, tmp_path):
    out, found = tmp_path / "out", []
    for _ in killed_everywhere(out, lambda: former(out), lambda: write(out)):
        go_on(out)
        shown = {name: data for name, data in listing(out).items() if "/" not in name}
        assert shown in (FORMER, NEW)
        found.append(shown == NEW)
    assert found == sorted(found)  # first the former, from the decision on the new
    assert set(found) == {False, True}
    assert listing(out) == NEW


def test_a_killed_recovery_is_finished_by_the_next(tmp_path):
    out = tmp_path / "out"

    def undecided():
        former(out)
        for number, _ in enumerate(killed_everywhere(out, lambda: former(out), lambda: write(out))):
            if number == 3:  # after the decision
                return

    for _ in killed_everywhere(out, undecided, lambda: next_write(out)):
        next_write(out)
        assert listing(out) == NEW


def test_a_full_disk_leaves_the_former(tmp_path, monkeypatch):
    former(tmp_path / "out")
    full = OSError(errno.ENOSPC, "full")
    monkeypatch.setattr("dpt_deploy.artifact.commit.json.dumps", lambda _value: (_ for _ in ()).throw(full))
    with pytest.raises(ResourceError, match="full"):
        write(tmp_path / "out")
    assert listing(tmp_path / "out") == FORMER


def test_of_two_sets_none_is_moved_if_one_cannot_be_decided(tmp_path, monkeypatch):
    former(tmp_path / "out")
    calls = []

    def dumps(value):
        calls.append(value)
        if len(calls) == 2:
            raise OSError(28, "full")
        return json.JSONEncoder().encode(value)

    monkeypatch.setattr("dpt_deploy.artifact.commit.json.dumps", dumps)
    with staged_files(tmp_path / "out", "one") as one, staged_files(tmp_path / "out", "two") as two:
        (one / "a").write_bytes(b"new")
        (two / "b").write_bytes(b"new")
        with pytest.raises(ResourceError, match="full"):
            commit_files(FileSet(one, ["a"]), FileSet(two, ["b"]))
    assert listing(tmp_path / "out") == FORMER


def test_all_files_get_the_usual_permissions(tmp_path):
    with staged_files(tmp_path, "set") as stage:
        for name in NAMES:
            (stage / name).touch(0o600)
        commit_files(FileSet(stage, NAMES))
    (tmp_path / "usual").touch()
    assert len({(tmp_path / name).stat().st_mode for name in ("usual", *NAMES)}) == 1


def test_a_second_process_is_refused_and_a_reader_does_not_meddle(tmp_path):
    former(tmp_path / "out")
    with staged_files(tmp_path / "out", "set") as stage:
        (stage / ".commit").write_text(json.dumps({"files": [["a", 5]], "stale": []}))
        recover(tmp_path / "out", "set", lambda _name: True, clear=True)
        with pytest.raises(ResourceError, match="is being written by another process"):
            write(tmp_path / "out")
        (stage / ".commit").unlink()
    assert listing(tmp_path / "out") == FORMER


JOURNALS = {
    "other names": {"files": [["other", 3]], "stale": []},
    "stale others": {"files": [["a", 3]], "stale": ["other"]},
    "path": {"files": [["../victim", 3]], "stale": []},
    "stale path": {"files": [["a", 3]], "stale": ["../victim"]},
    "wrong size": {"files": [["a", 4]], "stale": []},
    "missing": {"files": [["absent", 3]], "stale": []},
    "no files": {"files": [], "stale": []},
    "no journal": [],
    "number": {"files": 3, "stale": []},
}


@pytest.mark.parametrize("journal", JOURNALS.values(), ids=JOURNALS)
def test_a_forged_journal_moves_and_removes_nothing(journal, tmp_path):
    former(tmp_path / "out")
    (tmp_path / "victim").write_bytes(b"abc")
    stage = stage_of(tmp_path / "out", "set")
    stage.mkdir()
    for name in ("a", "other"):
        (stage / name).write_bytes(b"abc")
    (stage / ".commit").write_text(json.dumps(journal))
    recover(tmp_path / "out", "set", {"a", "b", "mark", "gone"}.__contains__)
    assert {name: data for name, data in listing(tmp_path / "out").items() if "/" not in name} == FORMER
    assert (tmp_path / "victim").exists()


def test_a_journal_whose_file_is_a_link_counts_for_nothing(tmp_path):
    former(tmp_path / "out")
    (tmp_path / "victim").write_bytes(b"abc")
    stage = stage_of(tmp_path / "out", "set")
    stage.mkdir()
    (stage / "a").symlink_to(tmp_path / "victim")
    (stage / ".commit").write_text(json.dumps({"files": [["a", 3]], "stale": []}))
    next_write(tmp_path / "out")
    assert listing(tmp_path / "out") == FORMER
    assert (tmp_path / "victim").read_bytes() == b"abc"


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="is a folder; a file belongs there"):
        write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
