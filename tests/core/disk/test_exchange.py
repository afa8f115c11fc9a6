"""Folders change places, in one step where the system can."""

import errno

import pytest

from dpt_deploy.core.disk import exchange as module
from dpt_deploy.core.disk.exchange import exchange

pytestmark = pytest.mark.fast


@pytest.fixture
def folders(tmp_path):
    found = tmp_path / "one", tmp_path / "other"
    for folder in found:
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    return found


def test_they_change_places(folders):
    exchange(*folders)
    assert [(folder / "name").read_text() for folder in folders] == ["other", "one"]


class _Without:
    """A C library whose kernel cannot exchange."""

    def renameat2(self, *_):
        module.ctypes.set_errno(errno.EINVAL)
        return -1


@pytest.mark.parametrize("library", [_Without(), object()], ids=["refused", "absent"])
def test_without_the_call_it_takes_two_renames(folders, library, monkeypatch):
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: library)
    exchange(*folders)
    assert [(folder / "name").read_text() for folder in folders] == ["other", "one"]
    assert len(list(folders[0].parent.iterdir())) == 2


def test_a_missing_one_is_an_error_and_the_other_stays(folders, tmp_path):
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "none", folders[1])
    assert (folders[1] / "name").read_text() == "other"
