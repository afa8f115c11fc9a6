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
from dpt_deploy.core.recipe import zoo_names
from dpt_deploy.model.checkpoints import published as module
from dpt_deploy.model.checkpoints.published import cache_folder, default_for, fetch, find, published, with_hash
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
}
AUTHORS = (
    "https://github.com/isl-org/",
    "https://huggingface.co/depth-anything/",
    "https://huggingface.co/spaces/LiheYoung/",
)
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


# --- the table --------------------------------------------------------------------------------------------------------


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


def test_a_hash_of_others_recognises_a_file_and_refuses_no_download(served, monkeypatch):
    digest = hashlib.sha256(PAYLOAD).hexdigest()
    right, wrong = (replace(ENTRY, sha256=each, second_hand=True) for each in (digest, "0" * 64))
    assert (right.checked, right.required_sha256) == ("length", "")
    for entry, agrees in ((right, True), (wrong, False)):
        with recording() as reporter:
            path = fetch(entry)
        assert any("the same as copies of others" in line for line in reporter.lines) == agrees
        assert any("not 00000000" in line for line in reporter.lines) != agrees
        assert path.with_name(f"{path.name}.sha256").is_file()  # pinned, as a file without a published hash
        path.unlink()
    monkeypatch.setattr(module, "published", lambda: (right,))
    assert with_hash(digest) == right


def test_a_file_of_a_folder_is_not_fetched_alone():
    with pytest.raises(UsageError, match=r"read with the config\.json") as caught:
        fetch(replace(ENTRY, file="Folder-hf/model.safetensors", address=""))
    assert "--weights FOLDER" in caught.value.hint


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


def test_weights_under_a_restricted_licence_are_taken_by_name_only(monkeypatch):
    restricted = replace(ENTRY, default=False, licence="CC-BY-NC-4.0", commercial="no")
    monkeypatch.setattr(module, "published", lambda: (restricted,))
    with pytest.raises(UsageError, match=r"CC-BY-NC-4\.0 \(commercial use: no\), so they are taken by name") as caught:
        default_for("hybrid", "depth")
    assert "--weights synthetic-cafe.pt" in caught.value.hint


def test_an_unknown_name_is_not_found():
    assert find("dpt_hybrid.pt") is None


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
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
from dpt_deploy.model.checkpoints.published import default_for, fetch
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
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)
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
