"""Names that others can foresee: what lies there is used only if it is real, ours and closed to others."""

import os
import threading

import pytest
from support.faults.handmade import listing

from dpt_deploy.artifact.commit import staged_files
from dpt_deploy.core.disk import private
from dpt_deploy.core.disk.private import (
    HIDDEN,
    hidden_folder,
    hold_folder,
    open_own_file,
    own_folder,
    scratch_folder,
    sweep,
)
from dpt_deploy.core.errors import UsageError

pytestmark = pytest.mark.fast


@pytest.fixture
def victim(tmp_path):
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").write_bytes(b"precious")
    return folder


def staged_over(path):
    with staged_files(path.parent, "name"):
        pass


FOLDERS = {
    "link to a folder": lambda path, victim: path.symlink_to(victim),
    "link to a file": lambda path, victim: path.symlink_to(victim / "precious"),
    "dangling link": lambda path, victim: path.symlink_to("nowhere"),
    "link to itself": lambda path, victim: path.symlink_to(path),
    "file": lambda path, victim: path.touch(),
    "pipe": lambda path, victim: os.mkfifo(path),
    "open to others": lambda path, victim: (path.mkdir(), path.chmod(0o777)),
    "lock is a link": lambda path, victim: (path.mkdir(), (path / "lock").symlink_to(victim / "precious")),
    "lock is a folder": lambda path, victim: (path.mkdir(), (path / "lock").mkdir()),
    "lock is a pipe": lambda path, victim: (path.mkdir(), os.mkfifo(path / "lock")),
}


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS)
def test_what_is_not_a_private_folder_is_refused_and_nothing_behind_it_changes(make, tmp_path, victim):
    path = tmp_path / ".name.partial"
    make(path, victim)
    with pytest.raises(UsageError, match="expected a") as caught:
        staged_over(path)
    assert caught.value.hint
    assert str(path) in str(caught.value)
    assert listing(victim) == {"precious": b"precious"}
    assert os.path.lexists(path)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    (tmp_path / ".name.partial").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UsageError, match="belongs to another user"):
        staged_over(tmp_path / ".name.partial")


def test_links_in_a_leftover_are_removed_and_not_followed(tmp_path, victim):
    left = tmp_path / ".name.partial"
    (left / "deep").mkdir(parents=True)
    for link in (left / "to folder", left / "deep" / "to folder"):
        link.symlink_to(victim)
    (left / "to file").symlink_to(victim / "precious")
    staged_over(left)
    assert not left.exists()
    assert listing(victim) == {"precious": b"precious"}


def test_a_group_that_is_the_users_own_may_write(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own").chmod(0o775)
    own = (tmp_path / "own").stat()
    if own.st_gid == own.st_uid:
        own_folder(tmp_path / "own")
    monkeypatch.setattr(private, "_GROUP", 0)
    own_folder(tmp_path / "own")


FILES = {
    "link": lambda path, victim: path.symlink_to(victim / "precious"),
    "dangling link": lambda path, victim: path.symlink_to(victim / "new"),
    "link to itself": lambda path, victim: path.symlink_to(path),
    "folder": lambda path, victim: path.mkdir(),
    "pipe": lambda path, victim: os.mkfifo(path),
    "open to others": lambda path, victim: (path.touch(), path.chmod(0o666)),
}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND], ids=["read", "append"])
@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_a_file_that_is_not_ours_alone_is_not_opened(make, flags, tmp_path, victim):
    make(tmp_path / "file", victim)
    with pytest.raises(UsageError, match="expected a file that only you can write to"):
        os.close(open_own_file(tmp_path / "file", flags))
    assert listing(victim) == {"precious": b"precious"}


def test_a_folder_that_is_a_link_is_not_ours(tmp_path, victim):
    (tmp_path / "models").symlink_to(victim)
    with pytest.raises(UsageError, match="is a symbolic link"):
        own_folder(tmp_path / "models")


# --- leftovers --------------------------------------------------------------------------------------------------------


def left_by_a_killed_run(parent, prefix=HIDDEN):
    """A hidden folder with a file in it, whose lock nobody holds."""
    with hold_folder(parent / f"{prefix}{os.urandom(8).hex()}") as held:
        (held.path / "half").touch()
    return held.path


def test_what_killed_runs_left_is_removed_and_what_is_alive_stays(tmp_path):
    left = left_by_a_killed_run(tmp_path)
    (tmp_path / f"{HIDDEN}{'0' * 16}").mkdir()  # killed before there was a lock
    others = [tmp_path / f"{HIDDEN}of-someone", tmp_path / f"{HIDDEN}{'1' * 16}"]
    for other in others:
        other.mkdir()
        (other / "file").touch()  # no lock: not made here
    (tmp_path / f"{HIDDEN}{'2' * 16}").symlink_to(others[0])
    with hidden_folder(tmp_path) as alive:
        sweep(tmp_path, HIDDEN)
        assert alive.is_dir()
    assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(o.name for o in others), HIDDEN + "2" * 16])


def test_the_temporary_folder_is_swept_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(private.tempfile, "gettempdir", lambda: str(tmp_path))
    left = left_by_a_killed_run(tmp_path, private.SCRATCH)
    with scratch_folder() as folder:
        assert folder.parent == tmp_path
        assert not left.exists()
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_sweeps_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(private.secrets, "token_hex", lambda _: "0" * 16)
    path, lock = tmp_path / f"{HIDDEN}{'0' * 16}", private._try_lock
    sweeping = hold_folder(path)  # as a sweep holds it that found the folder before its maker locked it
    tried = threading.Event()

    def locked(*args, **options):
        tried.set()
        return lock(*args, **options)

    def made():
        with hidden_folder(tmp_path) as folder:
            found.append(folder.is_dir())

    found: list[bool] = []
    monkeypatch.setattr(private, "_try_lock", locked)
    making = threading.Thread(target=made)
    making.start()
    assert tried.wait(10)
    with sweeping:
        sweeping.remove()
    making.join(10)
    assert found == [True]
    assert not path.exists()


def test_one_process_at_a_time_and_the_next_may_wait(tmp_path):
    first = hold_folder(tmp_path / "folder")
    assert hold_folder(tmp_path / "folder") is None
    got = []
    waiting = threading.Thread(target=lambda: got.append(hold_folder(tmp_path / "folder", wait=True)))
    waiting.start()
    with first:
        first.remove()  # the other one notices that its lock file is no longer there
    waiting.join(10)
    with got[0] as held:
        assert held.path.is_dir()
