"""Images of an archive, shards, and names of results."""

import os

import pytest
from support.reporting import recording

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.jobs.predict.archive.listing import ArchiveEntry, Shard, list_entries, result_base, whole_names

pytestmark = pytest.mark.fast

SUFFIXES = frozenset({".jpg", ".png"})


def listed(source, *, recursive=True, out=None):
    return [entry.path for entry in list_entries(source, SUFFIXES, recursive=recursive, out=out or source / "out")]


def filled(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")
    return folder


def test_subfolders_are_read_in_order_and_the_folder_of_results_is_not(tmp_path):
    filled(tmp_path, "b/1.jpg", "a/1.jpg", "a/c/2.PNG", "0.jpg", "notes.txt", "out/1.png", ".hidden/1.jpg", "a/.2.jpg")
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    assert listed(tmp_path) == ["0.jpg", "a/1.jpg", "a/c/2.PNG", "b/1.jpg"]
    assert listed(tmp_path, recursive=False) == ["0.jpg"]


def test_what_is_left_out_is_counted(tmp_path):
    filled(tmp_path, "a.jpg", "b/1.jpg", "notes.txt")
    with recording() as messages:
        listed(tmp_path, recursive=False)
    assert "2 entries" in messages.lines[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    filled(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "b").chmod(0)
    with pytest.raises(BadFileError, match="cannot read folder"):
        listed(tmp_path)
    (tmp_path / "b").chmod(0o700)


def test_a_file_and_an_empty_folder_are_no_archive(tmp_path):
    with pytest.raises(BadFileError, match="holds no image"):
        listed(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        listed(filled(tmp_path, "a.jpg") / "a.jpg")
    with pytest.raises(BadFileError, match="does not exist"):
        listed(tmp_path / "nothing")


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_partition_exactly_and_do_not_move(count):
    paths = [f"{folder}/{index}.jpg" for folder in "abc" for index in range(100)]
    shards = [Shard.parse(f"{index}/{count}") for index in range(count)]
    holders = [[shard.index for shard in shards if shard.holds(path)] for path in paths]
    assert all(len(found) == 1 for found in holders)
    assert {found[0] for found in holders} == set(range(count))
    assert Shard(0, 3).holds("a/0.jpg") is False  # of this path, on every machine and in every version
    assert Shard(2, 3).holds("a/0.jpg") is True


@pytest.mark.parametrize("text", ["3/3", "1", "-1/3", "0/0", "1/2/3", "a/b", " 0/1"])
def test_a_shard_that_cannot_be_is_a_usage_error(text):
    with pytest.raises(UsageError, match="shard"):
        Shard.parse(text)


def results(paths, suffixes):
    whole = whole_names([ArchiveEntry(path, 1, 1) for path in paths], suffixes)
    return [result_base(path, whole) + suffix for path in paths for suffix in suffixes]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/1.jpg", "b/1.jpg"], ["a/1.png", "b/1.png"]),
        (["a/1.jpg", "a/1.png", "b/1.png"], ["a/1.jpg.png", "a/1.png.png", "b/1.png"]),
        (["1.jpg", "1.jpg.png", "1.png"], ["1.jpg.png", "1.jpg.png.png", "1.png.png"]),
    ],
)
def test_results_are_named_by_the_stem_or_by_the_whole_name_if_that_is_taken(paths, expected):
    assert results(paths, [".png"]) == expected


def test_results_of_two_formats_never_meet():
    found = results(["a.jpg", "a-color.jpg", "a-color.jpg.png", "a.jpg.jpg"], [".png", "-color.png"])
    assert len(set(found)) == len(found)
