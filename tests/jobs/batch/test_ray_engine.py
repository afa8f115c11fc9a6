"""Archives on Ray: the same files as `run`, whatever is killed. `nox -s ray` runs these in an environment with Ray."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import files
from dpt_deploy.jobs.predict.archive.archive import run_archive
from dpt_deploy.jobs.predict.archive.worker import ArchiveWorker

pytestmark = [pytest.mark.needs("ray", "pyarrow", "onnxruntime"), pytest.mark.filterwarnings("ignore")]  # Ray's own
if find_spec("ray"):
    import ray
    from pyarrow import parquet
    from ray._private.internal_api import memory_summary
    from ray.cluster_utils import Cluster

    from dpt_deploy.jobs.batch import batch

IMAGES, CORRUPT, BLOCK = 500, 10, 8
KILLS = int(os.environ.get("DPT_TEST_KILLS", "4"))
OPTIONS = {"recursive": True, "formats": ("pfm",)}


def in_every_worker():
    """Log each execution in the file DPT_TEST_LOG; with DPT_TEST_FULL every write meets a full disk."""
    plain, log = ArchiveWorker.__call__, os.environ["DPT_TEST_LOG"]

    def logged(self, entry, data):
        with Path(log).open("a") as stream:
            stream.write(f"{os.getpid()} {entry.path}\n")
        return plain(self, entry, data)

    ArchiveWorker.__call__ = logged
    if os.environ.get("DPT_TEST_FULL"):

        def full(path, data, **_):
            with write_errors(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        files.atomic_write_bytes = full


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network: the file that DPT_TEST_MODEL names, because Ray's environment has no PyTorch, or an export."""
    if named := os.environ.get("DPT_TEST_MODEL"):
        return Path(named)
    return import_module("support.tiny").exported("tiny-vit").path


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """500 images in five folders with the same names in each; ten are cut short."""
    source, random = tmp_path_factory.mktemp("archive") / "photos", np.random.default_rng(0)
    for index in range(IMAGES):
        path = source / "abcde"[index % 5] / f"{index // 5}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
        if index % (IMAGES // CORRUPT) == 7:
            path.write_bytes(path.read_bytes()[:300])
    return source


@pytest.fixture(scope="module")
def plain(archive, model, tmp_path_factory):
    """What `run` makes of the archive: the results and the manifest."""
    out = tmp_path_factory.mktemp("plain")
    found = run_archive(model, archive, out, **OPTIONS)
    assert (found.done, found.failed) == (IMAGES - CORRUPT, CORRUPT)
    return contents(out)


def contents(folder):
    """Every file, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def nodes():
    """A cluster of three nodes with a processor each; its head is the first."""
    cluster = Cluster()
    cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def driver(nodes, tmp_path):
    """Connect to the cluster with a log of executions; further variables may be given."""

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test

    def connect(**variables):
        variables |= {"DPT_TEST_LOG": str(tmp_path / "log")}
        environment = {"env_vars": variables, "worker_process_setup_hook": in_every_worker}
        ray.init(address=nodes.address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
        return tmp_path / "log"

    yield connect
    ray.shutdown()


def executions(log):
    return [line.split()[1] for line in log.read_text().splitlines()]


def run(model, archive, out, **options):
    return batch.run_batch(model, archive, out, ray="auto", block=BLOCK, **(OPTIONS | options))


def descendants():
    """Processes that this one started, directly or not, with their command lines."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue

    def ours(pid):
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return {pid: line for pid, line in lines.items() if ours(pid)}


def actors():
    return {pid for pid, line in descendants().items() if line.startswith("ray::MapWorker(MapBatches(_Actor))")}


def kill_actors(log, kills, stop):
    """Kill actors that have begun to work, one after the other, each once."""
    seen = set()
    while len(seen) < kills and not stop.is_set():
        working = {int(line.split()[0]) for line in log.read_text().splitlines()[-20:]} if log.exists() else set()
        for pid in (working & actors()) - seen:
            os.kill(pid, signal.SIGKILL)
            seen.add(pid)
            break
        time.sleep(0.05)
    return seen


def test_the_results_and_the_manifest_are_those_of_run(driver, archive, model, plain, tmp_path):
    log = driver()
    found = run(model, archive, tmp_path / "out")
    assert (found.done, found.skipped, found.failed) == (IMAGES - CORRUPT, 0, CORRUPT)
    assert contents(tmp_path / "out") == plain
    assert len(plain) == IMAGES - CORRUPT + 1
    assert len(executions(log)) == IMAGES
    found = run(model, archive, tmp_path / "out", resume=True)
    assert (found.done, found.skipped, found.failed) == (0, IMAGES - CORRUPT, CORRUPT)
    assert len(executions(log)) == IMAGES + CORRUPT


def test_killed_actors_cost_a_block_each(driver, archive, model, plain, tmp_path):
    log, stop, killed = driver(), threading.Event(), []
    killer = threading.Thread(target=lambda: killed.extend(kill_actors(log, KILLS, stop)))
    killer.start()
    run(model, archive, tmp_path / "out")
    stop.set()
    killer.join()
    assert len(killed) == KILLS
    assert contents(tmp_path / "out") == plain
    assert IMAGES <= len(executions(log)) <= IMAGES + BLOCK * KILLS


def test_a_killed_driver_loses_nothing(archive, model, plain, tmp_path):
    out, lines = tmp_path / "out", tmp_path / "out" / "manifest.jsonl"
    command = [sys.executable, "-m", "dpt_deploy", "batch", str(model), str(archive), "-o", str(out), "--recursive"]
    command += ["--format", "pfm", "--ray", "local", "--block", str(BLOCK)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not lines.exists() or lines.read_bytes().count(b"\n") < 60):
        time.sleep(0.02)
    process.kill()
    process.wait()
    rows = [json.loads(line) for line in lines.read_bytes().splitlines() if line.endswith(b"}")]
    finished = sum(row["status"] == "done" for row in rows)
    assert 40 < finished < IMAGES - CORRUPT
    done = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    counts = json.loads(done.stdout)
    assert counts["skipped"] == finished
    assert counts["done"] == IMAGES - CORRUPT - finished
    assert contents(out) == plain


def test_a_manifest_may_be_parquet_and_the_source_a_url(driver, archive, model, plain, tmp_path):
    driver()
    for scheme in ("file", "local"):  # the first by pyarrow, the second by fsspec
        out, table = tmp_path / scheme, tmp_path / f"{scheme}.parquet"
        found = run(model, f"{scheme}://{archive}/c", out, manifest=table)
        assert found.manifest == table
        rows = parquet.read_table(table).to_pylist()
        assert len(rows) == IMAGES // 5
        assert Counter(row["status"] for row in rows) == {"done": found.done, "failed": found.failed}
        assert {name: contents(out)[name] for row in rows for name, _ in row["outputs"]} == {
            name[2:]: data for name, data in plain.items() if name.startswith("c/")
        }
        again = run(model, f"{scheme}://{archive}/c", out, manifest=table, resume=True)
        assert (again.done, again.skipped) == (0, found.done)


def test_a_full_disk_ends_the_run_with_its_reason(driver, archive, model, tmp_path):
    driver(DPT_TEST_FULL="1")
    with pytest.raises(ResourceError, match="No space left") as caught:
        run(model, archive, tmp_path / "out")
    assert "free some disk space" in caught.value.hint
    assert [name for name in contents(tmp_path / "out") if not name.endswith(".jsonl")] == []


def test_a_machine_that_lacks_the_resources_or_the_model_is_an_error(driver, archive, model, tmp_path, monkeypatch):
    driver()
    with pytest.raises(IncompatibleError, match="0 GPUs"):
        run(model, archive, tmp_path / "out", gpus=1)
    for file in model.parent.glob(f"{model.name}*"):
        shutil.copy(file, tmp_path)
    planned = batch.work_off

    def spoiled(job, engine, **options):
        job.settings.artifact.unlink()
        return planned(job, engine, **options)

    monkeypatch.setattr(batch, "work_off", spoiled)
    with pytest.raises(BadFileError, match="does not exist"):
        run(tmp_path / model.name, archive, tmp_path / "out")


@pytest.mark.parametrize(("address", "code"), [("127.0.0.1:1", 7), ("ray://127.0.0.1:1", 2), ("nonsense", 2)])
def test_an_address_where_nothing_answers_is_an_error_at_once(address, code, archive, model, tmp_path, capsys):
    begun = time.monotonic()
    assert (
        call(["batch", str(model), str(archive), "-o", str(tmp_path / "out"), "--ray", address, "--recursive"]) == code
    )
    assert address in capsys.readouterr().err
    assert time.monotonic() - begun < 30
    assert not list((tmp_path).glob("out/*"))


def test_a_place_that_cannot_be_read_or_written_is_an_error(model, tmp_path):
    with pytest.raises(BadFileError, match="nowhere"):
        run(model, f"file://{tmp_path}/nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="unheard"):
        run(model, "unheard://of", tmp_path / "out")
    with pytest.raises(UsageError, match="all machines see"):
        run(model, tmp_path, "s3://bucket/out")


def spilled_bytes(nodes):
    """What Ray has moved from its object stores to disk so far."""
    found = re.search(r"Spilled (\d+) MiB", memory_summary(nodes.address, stats_only=True))
    return int(found[1]) << 20 if found else 0


def test_the_object_stores_hold_what_is_being_read_only(nodes, driver, model, tmp_path):
    """A gigabyte of images passes through stores of 400 MB without a byte on disk."""
    driver()
    picture, archive = np.random.default_rng(0).integers(0, 256, (512, 683, 3), dtype=np.uint8), tmp_path / "archive"
    archive.mkdir()
    Image.fromarray(picture).save(archive / "0.png", compress_level=0)
    for index in range(1, 1000):
        os.link(archive / "0.png", archive / f"{index}.png")
    before = spilled_bytes(nodes)
    found = run(model, archive, tmp_path / "out", size=Size(64, 96))
    assert found.done == 1000
    assert spilled_bytes(nodes) == before
    kept = [ray.put(np.zeros(50 << 20, np.uint8)) for _ in range(12)]  # the same figure moves once the stores are full
    assert spilled_bytes(nodes) > before, f"{len(kept)} objects"


def test_a_lost_node_costs_what_it_held(nodes, driver, archive, model, plain, tmp_path):
    """The last test, because the cluster has two nodes after it."""
    log, out = driver(), tmp_path / "out"
    lost = nodes.list_all_nodes()[-1]

    def lose():
        while not log.exists() or len(executions(log)) < IMAGES // 4:
            time.sleep(0.05)
        nodes.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=lose)
    killer.start()
    run(model, archive, out)
    killer.join()
    assert contents(out) == plain
    assert IMAGES <= len(executions(log)) <= IMAGES + 4 * BLOCK
