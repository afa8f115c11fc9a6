"""Archives through `run`: equal to a plain run, resumed, sharded, killed; workers that are pickled."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.disks import full_disk
from support.reporting import recording
from support.tiny import copied, exported

from dpt_deploy.artifact.store import write_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.imaging.files import file_bytes
from dpt_deploy.jobs.predict.archive.archive import run_archive
from dpt_deploy.jobs.predict.archive.listing import ArchiveEntry
from dpt_deploy.jobs.predict.archive.worker import ArchiveOptions, ArchiveWorker, WorkerSettings
from dpt_deploy.jobs.predict.files import run_files
from dpt_deploy.jobs.predict.images import ImageWriter

PFM = {"formats": ("pfm",)}


def model():
    return exported("tiny-vit").path


@pytest.fixture
def archive(tmp_path):
    """Two folders with the same names, two images of one stem, and two files that are damaged."""
    source, random = tmp_path / "photos", np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/deep/1.png", "0.png", "0.bmp"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(source / name)
    (source / "a" / "empty.png").write_bytes(b"")
    (source / "b" / "cut.png").write_bytes((source / "b/1.png").read_bytes()[:200])
    return source


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results(folder):
    return {name: data for name, data in contents(folder).items() if not name.endswith(".jsonl")}


def rows(manifest):
    return [json.loads(line) for line in manifest.read_text().splitlines()]


@pytest.fixture
def computed(monkeypatch):
    """How many images the network has seen."""
    seen, write = [], ImageWriter.write
    monkeypatch.setattr(ImageWriter, "write", lambda self, *given: (seen.append(1), write(self, *given))[1])
    return seen


def test_an_archive_has_the_results_of_plain_runs_and_a_row_for_each_image(archive, tmp_path):
    with recording() as messages:
        found = run_archive(model(), archive, tmp_path / "out", recursive=True)
    assert (found.done, found.skipped, found.failed) == (6, 0, 2)
    for folder in ("", "a", "b", "b/deep"):
        run_files(model(), archive / folder, tmp_path / "plain" / folder)
    assert results(tmp_path / "out") == contents(tmp_path / "plain")
    assert len(results(tmp_path / "out")) == 12
    written = rows(found.manifest)
    assert [row["path"] for row in written] == sorted(p.relative_to(archive).as_posix() for p in archive.rglob("*.*"))
    failed = {row["path"]: row["message"] for row in written if row["status"] == "failed"}
    assert set(failed) == {"a/empty.png", "b/cut.png"}
    assert "0 bytes" in failed["a/empty.png"]
    assert sum("failed:" in line for line in messages.lines) == 2
    listed = [name for row in written for name in row["outputs"]]
    assert sorted(listed) == sorted(results(tmp_path / "out"))


def test_a_resumed_run_does_what_is_missing_or_has_changed(archive, tmp_path, computed):
    out, options = tmp_path / "out", {"recursive": True, "resume": True, **PFM}

    def done(**more):
        computed.clear()
        found = run_archive(model(), archive, out, **(options | more))
        assert found.done == len(computed)
        return found.done, found.skipped, found.failed

    assert done() == (6, 0, 2)
    assert done() == (0, 6, 2)
    (out / "a/1.pfm").unlink()  # a result is lost
    (out / "a/2.pfm").write_bytes(b"")  # or cut
    assert done() == (2, 4, 2)
    os.utime(archive / "a/1.png")  # only the time has changed
    assert done() == (0, 6, 2)
    Image.new("RGB", (48, 32)).save(archive / "a/1.png")
    (archive / "b/cut.png").write_bytes((archive / "b/1.png").read_bytes())  # repaired
    assert done() == (2, 5, 1)
    assert done(square=True) == (7, 0, 1)
    assert done() == (7, 0, 1)  # the row is of the other options
    assert len(rows(out / "manifest.jsonl")) == 8


def test_another_model_does_everything_again(archive, tmp_path):
    same, other = (copied(exported("tiny-vit"), tmp_path / name) for name in ("same", "other"))
    image = replace(other.sidecar.image, mean=(0.4, 0.4, 0.4))
    write_sidecar(other.path, replace(other.sidecar, image=image))
    for path, expected in ((model(), 6), (same.path, 0), (other.path, 6)):
        found = run_archive(path, archive, tmp_path / "out", recursive=True, resume=True, **PFM)
        assert found.done == expected


def test_shards_partition_an_archive_and_make_the_same_files(archive, tmp_path):
    whole = run_archive(model(), archive, tmp_path / "whole", recursive=True, **PFM)
    parts = [
        run_archive(model(), archive, tmp_path / "parts", recursive=True, shard=f"{index}/3", **PFM)
        for index in range(3)
    ]
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    found = [row["path"] for part in parts for row in rows(part.manifest)]
    assert sorted(found) == [row["path"] for row in rows(whole.manifest)]
    assert [part.manifest.name for part in parts] == [f"manifest-{index}-of-3.jsonl" for index in range(3)]


def test_a_run_that_is_killed_goes_on_where_it_was(archive, tmp_path):
    for index in range(40):
        (archive / f"more-{index}.png").write_bytes((archive / "b/1.png").read_bytes())
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dpt_deploy", "run", str(model()), str(archive), "-o", str(out)]
    command += ["--recursive", "--format", "pfm"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.rglob("*.pfm"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len([line for line in (out / "manifest.jsonl").read_bytes().splitlines() if line.endswith(b"}")])
    found = run_archive(model(), archive, out, recursive=True, resume=True, **PFM)
    assert (found.done + found.skipped, found.failed) == (46, 2)
    assert found.skipped >= kept - 2 >= 0
    run_archive(model(), archive, tmp_path / "again", recursive=True, **PFM)
    assert results(out) == results(tmp_path / "again")
    assert not list(out.rglob(".*"))


def test_the_command_ends_with_exit_code_4_and_names_the_manifest(archive, tmp_path, capsys):
    out, manifest = tmp_path / "out", tmp_path / "rows.jsonl"
    argv = ["run", str(model()), str(archive), "-o", str(out), "--recursive", "--manifest", str(manifest)]
    assert call(argv) == 4
    shown = capsys.readouterr()
    assert shown.out == f"{manifest}\n"
    assert "2 of 8 files" in shown.err
    assert call(argv) == 2
    assert "--resume" in capsys.readouterr().err
    (archive / "a/empty.png").unlink()
    (archive / "b/cut.png").unlink()
    assert call([*argv, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"done": 0, "skipped": 6, "failed": 0, "manifest": str(manifest)}


@pytest.mark.parametrize("out", [".", ".."])
def test_results_that_could_replace_images_are_refused(out, tmp_path):
    source = tmp_path / "photos"
    (source / "photos").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(source / "photos" / "1.png")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"images"):
        run_archive(model(), source, source / out, recursive=True)
    assert contents(tmp_path) == before


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(archive, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with full_disk(3000), pytest.raises(ResourceError):
        run_archive(model(), archive, out, recursive=True, **PFM)
    assert results(out) == {}
    found = run_archive(model(), archive, out, recursive=True, resume=True, **PFM)
    assert (found.done, found.failed) == (6, 2)


def test_a_worker_is_pickled_by_its_path_and_refuses_another_model(archive, tmp_path):
    settings = WorkerSettings(model(), tmp_path / "out", ArchiveOptions(**PFM))
    entry, data = ArchiveEntry("b/1.png", 1, 2), file_bytes(archive / "b/1.png")
    with ArchiveWorker(settings) as worker:
        first = worker(entry, data)
        text = pickle.dumps(worker)
    assert len(text) < 2000
    before = contents(tmp_path / "out")
    with pickle.loads(text) as again:
        assert again(entry, data) == first
    assert contents(tmp_path / "out") == before
    with pytest.raises(IncompatibleError, match="not the model"):
        ArchiveWorker(WorkerSettings(model(), tmp_path, ArchiveOptions(), fingerprint="0"))


def test_a_missing_archive_is_an_error(tmp_path):
    with pytest.raises(BadFileError, match="does not exist"):
        run_archive(model(), tmp_path / "nothing", None)
    assert not list(Path(tmp_path).iterdir())
