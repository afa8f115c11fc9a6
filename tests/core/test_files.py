"""Files are whole or absent, folders are made or refused, and each failure is one line with what to do."""

import errno
import os
from pathlib import Path

import pytest

from dpt_deploy.core.errors import ResourceError, UsageError
from dpt_deploy.core.files import atomic_path, atomic_write_bytes, check_folder, ensure_folder, resolved, write_errors

pytestmark = pytest.mark.fast


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_written_whole_and_replaced_whole(tmp_path):
    for data in (b"old", b"new and longer"):
        atomic_write_bytes(tmp_path / "f.bin", data)
        assert (tmp_path / "f.bin").read_bytes() == data
    assert names(tmp_path) == ["f.bin"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("defect"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_the_old_file_and_nothing_else(error, tmp_path):
    def write_half():
        with atomic_path(tmp_path / "f.bin") as temporary:
            temporary.write_bytes(b"half")
            raise error

    (tmp_path / "f.bin").write_bytes(b"old")
    with pytest.raises(type(error)):
        write_half()
    assert names(tmp_path) == ["f.bin"]
    assert (tmp_path / "f.bin").read_bytes() == b"old"


def test_the_temporary_name_has_the_suffix_and_is_hidden(tmp_path):
    with atomic_path(tmp_path / "f.png") as temporary:
        temporary.touch()
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a regular file"):
        atomic_write_bytes(tmp_path, b"")


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    atomic_write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


KNOWN = ["ENOSPC", "EDQUOT", "EFBIG", "ENOENT", "ENOTDIR", "EACCES", "EPERM", "EROFS", "EIO", "EBUSY"]


@pytest.mark.parametrize("name", ["ENAMETOOLONG", "ELOOP"])
def test_a_path_that_no_file_can_have_is_the_users_mistake(name, tmp_path):
    with pytest.raises(UsageError, match=str(tmp_path)) as caught, write_errors(tmp_path / "f"):
        raise OSError(getattr(errno, name), "refused")
    assert caught.value.hint


def test_a_name_over_the_limit_is_refused_before_anything_is_written(tmp_path):
    for write in (lambda path: atomic_write_bytes(path, b""), ensure_folder, check_folder):
        with pytest.raises(UsageError, match="the name is too long for the file system"):
            write(tmp_path / ("n" * 300))
    assert names(tmp_path) == []


def test_a_link_that_leads_to_itself_is_refused(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert resolved(loop) == loop
    for write in (lambda path: atomic_write_bytes(path, b""), ensure_folder, check_folder):
        with pytest.raises(UsageError, match="loop"):
            write(loop)
    assert loop.is_symlink()


@pytest.mark.parametrize("mode", [0o666, 0o600])
def test_permissions_are_those_of_the_umask_whatever_wrote_the_file(mode, tmp_path):
    with atomic_path(tmp_path / "f", mode=mode) as temporary:
        temporary.unlink()
        temporary.touch(0o640)
    (tmp_path / "usual").touch(mode)
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("name", KNOWN)
def test_every_error_of_writing_says_what_and_what_to_do(name, tmp_path):
    code = getattr(errno, name)
    with pytest.raises(ResourceError, match=os.strerror(code)) as caught, write_errors(tmp_path / "f"):
        raise OSError(code, os.strerror(code))
    assert str(tmp_path / "f") in str(caught.value)
    assert caught.value.hint


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(ValueError, match="defect"), write_errors(tmp_path):
        raise ValueError("defect")


def test_a_folder_is_made_and_what_was_made_is_reported(tmp_path):
    assert ensure_folder(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert ensure_folder(tmp_path / "a" / "b") == []


@pytest.mark.parametrize("check", [ensure_folder, check_folder])
def test_a_file_in_the_place_of_a_folder_is_refused(check, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        check(tmp_path / "file")
    with pytest.raises(ResourceError, match="Not a directory"):
        check(tmp_path / "file" / "below")


def test_checking_a_folder_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", None)
    check_folder(tmp_path / "a" / "b")
    check_folder(tmp_path)
    check_folder(Path("relative"))


@pytest.mark.parametrize("name", ["", "a"], ids=["there", "to be made"])
def test_a_folder_that_cannot_be_written_is_refused(name, tmp_path, monkeypatch):
    check_folder(tmp_path / name)
    monkeypatch.setattr(os, "access", lambda *_args: False)
    with pytest.raises(ResourceError, match="Permission denied"):
        check_folder(tmp_path / name)
