"""The whole path of a named checkpoint, from a server on this machine: no torch, no network."""

import hashlib
import http.server
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from support.reporting import recording

from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.model.checkpoints import fetch as module
from dpt_deploy.model.checkpoints import published as table
from dpt_deploy.model.checkpoints import transfer
from dpt_deploy.model.checkpoints.fetch import fetch
from dpt_deploy.model.checkpoints.published import cache_folder, default_for, with_hash

pytestmark = pytest.mark.fast

PAYLOAD = bytes(range(256)) * 20_000  # 5 MB: several chunks
ENTRY = replace(
    default_for("hybrid", "depth"), file="synthetic-cafe.pt", sha256=hashlib.sha256(PAYLOAD).hexdigest()[:8]
)


class Handler(http.server.BaseHTTPRequestHandler):
    """One file with ranges; ``cuts`` are the numbers of bytes after which successive answers break off."""

    payload = PAYLOAD
    cuts: list[int]
    requests: list[str | None]
    ranges = True
    length = True

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.requests.append(wanted)
        if not self.path.endswith("/synthetic-cafe.pt"):
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start and start >= len(self.payload):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.payload)}")
            self.end_headers()
            return
        body = self.payload[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.payload) - 1}/{len(self.payload)}")
        if self.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(body)
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


@contextmanager
def serving(**settings):
    handler = type("Handler", (Handler,), {"cuts": [], "requests": [], **settings})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield handler, f"http://127.0.0.1:{server.server_port}/weights"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPT_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def served(monkeypatch):
    with serving() as (handler, address):
        monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", address)
        yield handler


def cached():
    return sorted(path.name for path in cache_folder().iterdir()) if cache_folder().is_dir() else []


def stage():
    """The private folder of a download."""
    return cache_folder() / ".synthetic-cafe.pt.partial"


def test_a_hash_of_others_recognises_a_file_and_refuses_no_download(served, monkeypatch):
    digest = hashlib.sha256(PAYLOAD).hexdigest()
    right, wrong = (replace(ENTRY, sha256=each, stated_by="mirrors") for each in (digest, "0" * 64))
    assert (right.checked, right.required_sha256) == ("length", "")
    for entry, agrees in ((right, True), (wrong, False)):
        with recording() as reporter:
            path = fetch(entry)
        assert any("the same as copies of others" in line for line in reporter.lines) == agrees
        assert any("not 00000000" in line for line in reporter.lines) != agrees
        assert path.with_name(f"{path.name}.sha256").is_file()  # pinned, as a file without a published hash
        path.unlink()
    monkeypatch.setattr(table, "published", lambda: (right,))
    assert with_hash(digest) == right


def test_a_file_of_a_folder_is_not_fetched_alone():
    with pytest.raises(UsageError, match=r"read with the config\.json") as caught:
        fetch(replace(ENTRY, file="Folder-hf/model.safetensors", address=""))
    assert "--weights FOLDER" in caught.value.hint


# --- download ---------------------------------------------------------------------------------------------------------


def test_a_download_is_whole_checked_and_kept(served):
    with recording() as reporter:
        path = fetch(ENTRY)
    assert path.read_bytes() == PAYLOAD
    (task,) = reporter.tasks
    assert task.states[-1][:2] == (len(PAYLOAD), len(PAYLOAD))
    assert (task.unit, task.closed) == ("bytes", True)
    assert fetch(ENTRY) == path
    assert len(served.requests) == 1  # the second time nothing was asked
    assert cached() == ["synthetic-cafe.pt", "synthetic-cafe.pt.sha256", "synthetic-cafe.pt.verified"]


def test_a_cut_connection_is_taken_up_where_it_broke_off(served):
    served.cuts += [1_500_000, 2_000_000]
    assert fetch(ENTRY).read_bytes() == PAYLOAD
    assert served.requests == [None, "bytes=1500000-", "bytes=3500000-"]


def test_a_download_resumes_in_the_next_run(served):
    served.cuts += [1_000_000, 0, 0, 0]
    with pytest.raises(ResourceError, match="interrupted several times"):
        fetch(ENTRY)
    assert cached() == [".synthetic-cafe.pt.partial"]
    assert fetch(ENTRY).read_bytes() == PAYLOAD
    assert served.requests[-1] == "bytes=1000000-"


def test_a_part_that_was_complete_is_not_fetched_again(served):
    stage().mkdir(parents=True)
    (stage() / "synthetic-cafe.pt").write_bytes(PAYLOAD)
    assert fetch(ENTRY).read_bytes() == PAYLOAD


def test_a_part_longer_than_the_file_is_thrown_away(served):
    stage().mkdir(parents=True)
    (stage() / "synthetic-cafe.pt").write_bytes(PAYLOAD + b"tail")
    assert fetch(ENTRY).read_bytes() == PAYLOAD


def test_a_server_without_ranges_starts_over(monkeypatch):
    with serving(ranges=False) as (handler, address):
        handler.cuts += [1_000_000]
        monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", address)
        assert fetch(ENTRY).read_bytes() == PAYLOAD


def test_without_a_hash_a_cut_download_starts_over(served):
    served.cuts += [1_000_000]
    assert fetch(replace(ENTRY, sha256="")).read_bytes() == PAYLOAD
    assert served.requests == [None, None]


def test_a_wrong_hash_is_an_error_and_leaves_nothing(served):
    served.payload = b"another file" * 1000
    with pytest.raises(BadFileError, match=f"expected {ENTRY.sha256}") as caught:
        fetch(ENTRY)
    assert caught.value.exit_code == 4
    assert cached() == []


@pytest.mark.parametrize("entry", [ENTRY, replace(ENTRY, sha256="")], ids=["hash known", "hash not known"])
def test_a_copy_damaged_since_is_fetched_again(entry, served):
    path = fetch(entry)
    path.write_bytes(PAYLOAD[:-1] + b"?")
    os.utime(path, ns=(1, 1))
    assert fetch(entry).read_bytes() == PAYLOAD
    assert len(served.requests) == 2


def test_a_file_put_there_by_hand_is_checked_and_used():
    cache_folder().mkdir(parents=True)
    (cache_folder() / ENTRY.file).write_bytes(PAYLOAD)
    assert fetch(replace(ENTRY, address="")).read_bytes() == PAYLOAD


# --- the pinned hash --------------------------------------------------------------------------------------------------

OTHER = bytes(reversed(range(256))) * 20_000
KNOWN = {"length": "", "8 digits": ENTRY.sha256, "64 digits": hashlib.sha256(PAYLOAD).hexdigest()}


def changed_later(monkeypatch, digits, served):
    """An entry whose first copy is in the cache, and whose later copies are another file that meets its digits."""
    entry = replace(ENTRY, sha256=KNOWN[digits])
    path = fetch(entry)
    served.payload = OTHER
    path.unlink()
    if digits == "8 digits":  # as if the other file had been made to have these digits
        other = hashlib.sha256(OTHER).hexdigest()
        monkeypatch.setattr(module, "_hash", lambda _path: entry.sha256 + other[8:])
    return entry


@pytest.mark.parametrize("digits", ["length", "8 digits"])
def test_a_later_file_with_another_full_hash_is_an_error(digits, served, monkeypatch):
    entry = changed_later(monkeypatch, digits, served)
    with pytest.raises(BadFileError, match="the first copy had") as caught:
        fetch(entry)
    assert hashlib.sha256(PAYLOAD).hexdigest() in str(caught.value)
    pin = cache_folder() / "synthetic-cafe.pt.sha256"
    assert f"delete {pin}" in caught.value.hint
    assert "synthetic-cafe.pt" not in cached()
    pin.unlink()  # as the hint says
    assert fetch(entry).read_bytes() == OTHER


def test_a_pin_is_not_needed_where_all_digits_are_published(served):
    fetch(replace(ENTRY, sha256=KNOWN["64 digits"]))
    assert cached() == ["synthetic-cafe.pt", "synthetic-cafe.pt.verified"]


def test_a_pin_has_the_form_of_sha256sum(served):
    fetch(ENTRY)
    pin = cache_folder() / "synthetic-cafe.pt.sha256"
    assert pin.read_text() == f"{KNOWN['64 digits']}  synthetic-cafe.pt\n"


def test_a_pin_that_others_could_write_is_refused(served, tmp_path):
    pin = fetch(ENTRY).with_name("synthetic-cafe.pt.sha256")
    other = tmp_path / "theirs"
    other.write_text(pin.read_text())
    pin.unlink()
    pin.symlink_to(other)
    with pytest.raises(UsageError, match="symbolic link"):
        fetch(ENTRY)
    pin.unlink()
    pin.write_text(other.read_text())
    pin.chmod(0o666)
    with pytest.raises(UsageError, match="others"):
        fetch(ENTRY)


def test_a_copy_of_an_earlier_version_is_pinned_without_a_download(served):
    path = fetch(ENTRY)
    pin = path.with_name(f"{path.name}.sha256")
    pin.unlink()
    assert fetch(ENTRY) == path
    assert pin.is_file()
    assert len(served.requests) == 1


def test_a_copy_that_met_8_digits_is_checked_again_when_64_are_known(served):
    path = fetch(replace(ENTRY, sha256=""))
    with pytest.raises(BadFileError, match=r"has SHA-256 [0-9a-f]{8}…; expected 00000000…"):
        fetch(replace(ENTRY, sha256="0" * 64))
    assert not path.exists()


def test_a_file_of_another_length_is_refused_before_it_is_hashed(served, monkeypatch):
    monkeypatch.setattr(module, "_hash", lambda _path: pytest.fail("hashed"))
    with pytest.raises(BadFileError, match=r"has 5,120,000 bytes; expected 5,120,001: it was removed"):
        fetch(replace(ENTRY, size_bytes=len(PAYLOAD) + 1))
    assert cached() == []


@pytest.mark.parametrize("content", [b"", b"short  file", b"\xff\xfe", b"0" * 64])
def test_a_damaged_pin_is_not_a_traceback(content, served):
    fetch(ENTRY)
    (cache_folder() / "synthetic-cafe.pt.sha256").write_bytes(content)
    if content == b"0" * 64:  # a whole hash, of another file
        with pytest.raises(BadFileError, match="the first copy had 0000"):
            fetch(ENTRY)
    else:
        assert fetch(ENTRY).read_bytes() == PAYLOAD


# --- several processes, and other users -------------------------------------------------------------------------------


def test_four_processes_that_fetch_one_file_at_once_download_it_once(served):
    code = f"""
from dataclasses import replace
from dpt_deploy.model.checkpoints.fetch import fetch
from dpt_deploy.model.checkpoints.published import default_for
print(fetch(replace(default_for("hybrid", "depth"), file={ENTRY.file!r}, sha256={ENTRY.sha256!r})))
"""
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert set(outputs) == {str(cache_folder() / ENTRY.file)}
    assert served.requests == [None]
    assert cached() == ["synthetic-cafe.pt", "synthetic-cafe.pt.sha256", "synthetic-cafe.pt.verified"]


def test_a_link_in_the_place_of_a_part_is_refused(served, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ENTRY.file).write_bytes(b"precious")
    cache_folder().mkdir(parents=True)
    stage().symlink_to(victim)
    with pytest.raises(UsageError, match="is a symbolic link"):
        fetch(ENTRY)
    assert (victim / ENTRY.file).read_bytes() == b"precious"


def forge(path):
    """Replace the cached file, with a mark that vouches for it."""
    path.write_bytes(b"forged")
    module._mark(path).unlink(missing_ok=True)
    state = path.stat()
    module._mark(path).write_text(f"{state.st_size} {state.st_mtime_ns} {hashlib.sha256(PAYLOAD).hexdigest()}")


FORGED = {
    "mark open to others": lambda path: (forge(path), module._mark(path).chmod(0o666)),
    "folder open to others": lambda path: (path.parent.chmod(0o777), forge(path)),
    "mark is a link": lambda path: (forge(path), module._mark(path).rename("m"), module._mark(path).symlink_to("m")),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_mark_that_others_can_have_written_vouches_for_nothing(change, served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change(fetch(ENTRY))
    assert fetch(ENTRY).read_bytes() == PAYLOAD
    assert len(served.requests) == 2


# --- no way to the file -----------------------------------------------------------------------------------------------


def assert_helpful(error, entry):
    assert error.exit_code == 7
    assert entry.file in str(error)
    assert "http" in str(error)
    assert "--weights FILE" in error.hint
    assert "--weights random" in error.hint


def test_a_missing_file_names_the_file_and_both_ways_on(served):
    entry = replace(ENTRY, file="absent.pt")
    with pytest.raises(ResourceError, match="the server answers 404") as caught:
        fetch(entry)
    assert_helpful(caught.value, entry)


def test_no_network_names_the_file_and_both_ways_on(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(ResourceError, match=r"no connection .*refused") as caught:
        fetch(ENTRY)
    assert_helpful(caught.value, ENTRY)


def test_no_name_server_is_the_same(monkeypatch):
    monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", "http://weights.invalid/")
    with pytest.raises(ResourceError, match=r"cannot download synthetic-cafe\.pt") as caught:
        fetch(ENTRY)
    assert_helpful(caught.value, ENTRY)


def test_silence_is_the_same(monkeypatch):
    monkeypatch.setattr(transfer, "_TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ResourceError, match="timed out"):
            fetch(ENTRY)


@pytest.mark.parametrize("address", ["file:///etc", "ftp://127.0.0.1", "/weights"])
def test_only_http_is_spoken(address, monkeypatch):
    monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", address)
    with pytest.raises(UsageError, match="is not http or https"):
        fetch(ENTRY)


def test_a_file_without_an_address_must_be_given():
    with pytest.raises(UsageError, match="no address that a program can fetch") as caught:
        fetch(replace(ENTRY, address=""))
    assert "--weights FILE" in caught.value.hint


def test_a_full_disk_is_an_error_and_the_part_is_not_taken_for_the_file(served):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(ResourceError, match="cannot write") as caught:
            fetch(ENTRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.exit_code == 7
    assert "synthetic-cafe.pt" not in cached()
    assert fetch(ENTRY).read_bytes() == PAYLOAD


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPT_DEPLOY_CACHE", str(tmp_path / "file"))
    with pytest.raises(ResourceError, match="cannot write"):
        fetch(ENTRY)
