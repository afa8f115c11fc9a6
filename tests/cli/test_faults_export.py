"""An export that fails, is killed, or is not needed: nothing half-made, nothing lost, nothing made twice."""

import http.server
import os
import pickle
import signal
import socket
import threading
from dataclasses import replace

import onnx
import pytest
import torch
from support.disks import full_disk
from support.faults import quick
from support.faults.calling import checked, complaint, fine
from support.faults.handmade import listing
from support.tiny import copied, exported, tampered, tiny_path, tiny_recipe, tiny_spec

from dpt_deploy.artifact import staging
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.export import export, request
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.random_weights import random_model

VIT = tiny_path("tiny-vit")
FILES = ["tiny-vit-fp32.onnx", "tiny-vit-fp32.onnx.golden.npz", "tiny-vit-fp32.onnx.json"]


@pytest.fixture
def former():
    return exported("tiny-vit")


@pytest.fixture
def made(former, monkeypatch):
    """Exports take what a former one made; the events of each are collected."""
    events = []
    quick.install(monkeypatch.setattr, former, events.append)
    return events


def argv(out, *options, weights="random"):
    return ["export", "--backbone", VIT, "--weights", weights, "-o", out, *options]


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def good(path):
    save_native(random_model(tiny_spec("tiny-vit")), path)


CHECKPOINTS = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("loss 0.1\n" * 99),
    "truncated": lambda path: (good(path), os.truncate(path, path.stat().st_size * 9 // 10)),
    "other network": lambda path: save_native(random_model(tiny_spec("tiny-hybrid")), path),
    "other task": lambda path: save_native(random_model(tiny_spec("tiny-seg")), path),
    "malicious": lambda path: torch.save({"model": Malicious(path.with_name("executed"))}, path),
    "malicious pickle": lambda path: path.write_bytes(pickle.dumps(Malicious(path.with_name("executed")))),
    "empty folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("make", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_bad_checkpoint_exits_4_and_nothing_is_written(make, tmp_path, made, capsys):
    checkpoint = tmp_path / "weights.pt"
    make(checkpoint)
    before = listing(tmp_path)
    assert "weights.pt" in complaint(capsys, 4, *argv(tmp_path / "a" / "out", weights=checkpoint))
    assert listing(tmp_path) == before
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "a").exists()
    assert made == []


def test_a_good_checkpoint_is_exported(tmp_path, made, capsys):
    good(tmp_path / "weights.safetensors")
    fine(capsys, *argv(tmp_path / "a" / "out", weights=tmp_path / "weights.safetensors"))
    assert sorted(listing(tmp_path / "a" / "out")) == FILES


# --- up to date -------------------------------------------------------------------------------------------------------


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_what_is_up_to_date_is_not_touched(tmp_path, former, capsys):
    copied(former, tmp_path)
    before = times(tmp_path)
    fine(capsys, *argv(tmp_path))
    assert times(tmp_path) == before


OPTIONS = {"--opset": {"opset": 20}, "--static": {"static": Size(64, 96)}}


@pytest.mark.parametrize(("flag", "options"), OPTIONS.items(), ids=OPTIONS)
def test_so_with_every_option_that_changes_the_graph(flag, options, tmp_path, former, monkeypatch, capsys):
    copied(exported("tiny-vit", **options), tmp_path)  # by the real exporter
    before = times(tmp_path)
    made = []
    quick.install(monkeypatch.setattr, former, made.append)
    fine(capsys, *argv(tmp_path, flag, *options.values()))
    assert times(tmp_path) == before
    assert made == []
    fine(capsys, *argv(tmp_path))
    assert "payloads" in made


def later_recipe(**changes):
    return lambda *_args, **_options: replace(tiny_recipe("tiny-vit"), **changes)


def damage(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


LOAD = "dpt_deploy.cli.export.load_recipe"  # the command reads the recipe
CHANGED = {
    "force": (lambda folder, patch: None, ["--force"]),
    "graph": (lambda folder, patch: damage(folder / FILES[0]), []),
    "golden": (lambda folder, patch: (folder / FILES[1]).unlink(), []),
    "sidecar": (lambda folder, patch: (folder / FILES[2]).write_text("{}"), []),
    "no sidecar": (lambda folder, patch: (folder / FILES[2]).unlink(), []),
    "opset": (lambda folder, patch: patch(LOAD, later_recipe(opset=20)), []),
    "matrix": (lambda folder, patch: patch(LOAD, later_recipe(verify=MATRIX)), []),
    "tolerance": (lambda folder, patch: patch(LOAD, later_recipe(parity={"fp32": LOOSE})), []),
    "image rule": (lambda folder, patch: patch(LOAD, later_recipe(image=IMAGE)), []),
    "tools": (lambda folder, patch: patch(request, "tool_versions", lambda: {"torch": "9"}), []),
}
MATRIX = replace(tiny_recipe("tiny-vit").verify, batch=(5,))
LOOSE = replace(tiny_recipe("tiny-vit").parity["fp32"], max=1e-3)
IMAGE = replace(tiny_recipe("tiny-vit").image, resize="lower_bound")


@pytest.mark.parametrize(("change", "options"), CHANGED.values(), ids=CHANGED)
def test_what_is_not_what_was_asked_for_is_exported_again(change, options, tmp_path, former, made, monkeypatch, capsys):
    copied(former, tmp_path)
    change(tmp_path, monkeypatch.setattr)
    fine(capsys, *argv(tmp_path, *options))
    assert "payloads" in made
    open_artifact(tmp_path / FILES[0])
    assert sorted(listing(tmp_path)) == FILES


def test_other_weights_are_exported_again(tmp_path, made, capsys):
    checkpoint = tmp_path / "w.safetensors"
    for seed, exports in ((0, 1), (0, 1), (1, 2)):
        save_native(random_model(tiny_spec("tiny-vit"), seed=seed), checkpoint)
        fine(capsys, *argv(tmp_path / "out", weights=checkpoint))
        assert made.count("payloads") == exports


def test_random_weights_do_not_replace_trained_ones_unasked(tmp_path, made, capsys):
    checkpoint = tmp_path / "w.safetensors"
    save_native(random_model(tiny_spec("tiny-vit"), seed=0), checkpoint)
    fine(capsys, *argv(tmp_path / "out", weights=checkpoint))
    before = listing(tmp_path / "out")
    assert call(argv(tmp_path / "out", weights="random:1")) == 2
    assert "has trained weights" in capsys.readouterr().err
    assert listing(tmp_path / "out") == before
    fine(capsys, *argv(tmp_path / "out", "--force", weights="random:1"))
    assert made.count("payloads") == 2


# --- failures underway ------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_while_the_exporter_writes(tmp_path, former, capsys):
    copied(former, tmp_path)
    before = listing(tmp_path)
    with full_disk(2000):
        said = complaint(capsys, 7, *argv(tmp_path, "--force"))
    assert "File too large" in said
    assert "ulimit" in said
    assert listing(tmp_path) == before


@pytest.mark.parametrize("older", [False, True], ids=["nothing there", "older there"])
@pytest.mark.parametrize("event", ["staged", "half", "payloads"], ids=["graph", "golden", "sidecar"])
def test_a_disk_that_fills_at_every_file(event, older, tmp_path, former):
    if older:
        copied(former, tmp_path / "out")
    before = listing(tmp_path)
    arguments = argv(tmp_path / "out", "--force")
    with quick.forked(former, f"fill:{event}", arguments) as fork:
        code, _, err = fork.finished()
    assert "File too large" in checked(code, 7, err)
    assert listing(tmp_path) == before
    assert (tmp_path / "out").exists() == older


REAL_PARITY = export._with_first_parity


def swap_last_weights(graph):
    """Turn the last convolution round."""
    last = next(node for node in reversed(graph.graph.node) if node.op_type == "Conv")
    weight = next(entry for entry in graph.graph.initializer if entry.name == last.input[1])
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))


@pytest.mark.parametrize(("change", "code"), [(swap_last_weights, 5), (lambda _graph: None, 0)], ids=["wrong", "right"])
def test_a_graph_that_disagrees_is_not_written(change, code, tmp_path, former, monkeypatch, capsys):
    copied(former, tmp_path / "out")
    before = listing(tmp_path / "out")
    quick.install(monkeypatch.setattr, tampered(former, tmp_path / "made", change))
    monkeypatch.setattr(export, "_with_first_parity", REAL_PARITY)
    found = call([str(part) for part in argv(tmp_path / "out", "--force")])
    assert found == code
    assert ("does not agree with PyTorch" in capsys.readouterr().err) == bool(code)
    assert code == 0 or listing(tmp_path / "out") == before


def linked(path):
    """A link that leads to itself."""
    path.symlink_to(path)
    return path


UNWRITABLE = {
    "file": (lambda folder: folder / "file", 2, "is a file; expected a folder"),
    "below a file": (lambda folder: folder / "file" / "out", 7, "Not a directory"),
    "no file system for it": (lambda folder: "/proc/out", 7, "cannot write /proc/out"),
    "model is a folder": (lambda folder: folder / "taken", 2, "is a folder; a file of the artefact belongs there"),
    "long": (lambda folder: folder / ("n" * 300), 2, "the name is too long for the file system"),
    "link to itself": (lambda folder: linked(folder / "loop"), 2, "a symbolic link that leads nowhere"),
}


@pytest.mark.parametrize(("where", "code", "said"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_an_output_that_cannot_be_written_is_refused(where, code, said, tmp_path, made, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "taken" / FILES[0]).mkdir(parents=True)
    before = listing(tmp_path)
    assert said in complaint(capsys, code, *argv(where(tmp_path)))
    assert listing(tmp_path) == before
    assert made == []


LINKS = {
    "folder": lambda partial, victim: partial.symlink_to(victim),
    "lock": lambda partial, victim: (partial.mkdir(), (partial / "lock").symlink_to(victim / FILES[0])),
}


@pytest.mark.parametrize("options", [[], ["--force"]], ids=["plain", "force"])
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_a_link_in_the_place_of_the_private_folder_is_refused(link, options, tmp_path, former, made, capsys):
    victim = tmp_path / "victim"
    copied(former, victim)
    before = listing(victim)
    (tmp_path / "out").mkdir()
    link(tmp_path / "out" / f".{FILES[0]}.partial", victim)
    said = complaint(capsys, 2, *argv(tmp_path / "out", *options))
    assert f".{FILES[0]}.partial" in said
    assert listing(victim) == before
    assert made == []


def test_a_folder_without_permission_is_refused(tmp_path, made, monkeypatch, capsys):
    def denied(self, *_args, **_options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(staging.Path, "mkdir", denied)
    assert "Permission denied" in complaint(capsys, 7, *argv(tmp_path / "out"))
    assert made == []


# --- killed -----------------------------------------------------------------------------------------------------------

BEFORE_COMMIT = ["staged", "half", "payloads", "marked"]
IN_COMMIT = ["decided", "unmarked", "moved 1", "moved 2"]


def killed(event, folder, former):
    with quick.forked(former, f"die:{event}", argv(folder, "--force")) as fork:
        code, out, _ = fork.finished()
    assert code == -signal.SIGKILL, out


def recovers(folder, capsys):
    """The next export succeeds, and nothing of the killed one is left."""
    fine(capsys, *argv(folder))
    assert sorted(path.name for path in folder.iterdir()) == FILES
    open_artifact(folder / FILES[0])


@pytest.mark.parametrize("event", BEFORE_COMMIT)
def test_killed_before_the_commit_the_older_artefact_stays(event, tmp_path, former, made, capsys):
    copied(former, tmp_path)
    before = {name: data for name, data in listing(tmp_path).items() if ".partial" not in name}
    killed(event, tmp_path, former)
    left = listing(tmp_path)
    assert {name: left.get(name) for name in before} == before
    assert set(left) > set(before)
    fine(capsys, "verify", tmp_path / FILES[0], "--golden")
    fine(capsys, *argv(tmp_path, "--force"))
    recovers(tmp_path, capsys)


@pytest.mark.parametrize("event", IN_COMMIT)
def test_killed_in_the_commit_the_next_command_finishes_it(event, tmp_path, former, made, capsys):
    copied(former, tmp_path)
    killed(event, tmp_path, former)
    command = ("verify", "--golden") if event == "unmarked" else ("inspect",)
    fine(capsys, command[0], tmp_path / FILES[0], *command[1:])
    assert sorted(listing(tmp_path)) == FILES
    recovers(tmp_path, capsys)


@pytest.mark.parametrize("event", ["staged", "marked", "moved 1"])
def test_killed_the_first_time_there_is_no_artefact_or_a_whole_one(event, tmp_path, former, made, capsys):
    killed(event, tmp_path / "out", former)
    if event == "moved 1":
        fine(capsys, "inspect", tmp_path / "out" / FILES[0])
    else:
        assert "does not exist" in complaint(capsys, 4, "inspect", tmp_path / "out" / FILES[0])
    recovers(tmp_path / "out", capsys)


def test_what_a_killed_run_left_goes_even_if_all_is_up_to_date(
    tmp_path, tmp_path_factory, former, made, monkeypatch, capsys
):
    copied(former, tmp_path)
    system = tmp_path_factory.mktemp("system")
    monkeypatch.setattr("tempfile.tempdir", str(system))
    left = system / "dpt-deploy-0123456789abcdef"
    left.mkdir()
    killed("half", tmp_path, former)
    (tmp_path / ".tmp-0123456789abcdef").mkdir()
    assert len(list(tmp_path.iterdir())) == len(FILES) + 2
    recovers(tmp_path, capsys)
    assert made == []
    assert not left.exists()


def test_a_folder_that_is_no_text_is_refused_before_the_work(tmp_path, made, capsys):
    said = complaint(capsys, 2, *argv(tmp_path / "bad\udcff"))
    assert "no UTF-8 text" in said
    assert made == []
    assert not list(tmp_path.iterdir())


def test_killed_after_the_last_move_it_is_finished(tmp_path, former, capsys):
    killed("moved 3", tmp_path, former)
    fine(capsys, "verify", tmp_path / FILES[0], "--golden")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_it_exits_130_and_leaves_nothing(number, tmp_path, former):
    copied(former, tmp_path)
    before = listing(tmp_path)
    with quick.forked(former, "wait:half", argv(tmp_path, "--force")) as started:
        assert started.stdout.readline() == "ready\n"
        started.send_signal(number)
        code, _, err = started.finished()
    assert code == 130
    assert err.splitlines()[-1] == "error: interrupted; no incomplete artefact was left behind"
    assert "Traceback" not in err
    assert listing(tmp_path) == before


# --- at the same time -------------------------------------------------------------------------------------------------


def test_a_second_process_does_not_meet_the_first(tmp_path, former, made, capsys):
    copied(former, tmp_path)
    with quick.forked(former, "wait:half", argv(tmp_path, "--force")) as first:
        assert first.stdout.readline() == "ready\n"
        before = listing(tmp_path)
        assert "is being written by another process" in complaint(capsys, 7, *argv(tmp_path, "--force"))
        assert listing(tmp_path) == before
        fine(capsys, "verify", tmp_path / FILES[0], "--golden")  # the older one, meanwhile
        fine(capsys, *argv(tmp_path, "--opset", "20"))  # another artefact in the same folder
    recovers_with_neighbour(tmp_path, capsys)


def recovers_with_neighbour(folder, capsys):
    fine(capsys, *argv(folder, "--force"))
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([*FILES, *(name.replace("fp32", "fp32-opset20") for name in FILES)])


# --- network and modules ----------------------------------------------------------------------------------------------


def test_without_a_network_the_ways_on_are_named(tmp_path, made, monkeypatch, capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", address)
    said = complaint(capsys, 7, "export", "--backbone", "hybrid", "-o", tmp_path / "out")
    for part in ("dpt_hybrid-midas-501f0c75.pt", address, "--weights FILE", "--weights random"):
        assert part in said
    assert not (tmp_path / "out").exists()


def test_a_server_without_the_file_is_named_with_its_answer(tmp_path, made, monkeypatch, capsys):
    quiet = type("Quiet", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_args: None})
    with http.server.HTTPServer(("127.0.0.1", 0), quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DPT_DEPLOY_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}")
        said = complaint(capsys, 7, "export", "--backbone", "hybrid", "-o", tmp_path / "out")
        server.shutdown()
    assert "the server answers 501" in said
    assert not (tmp_path / "out").exists()


def test_without_the_runtime_an_export_is_unverified_and_says_so(tmp_path, former, monkeypatch, capsys):
    quick.install(monkeypatch.setattr, former)
    monkeypatch.setattr(export, "_with_first_parity", REAL_PARITY)
    monkeypatch.setattr("dpt_deploy.runtime.registry.find_spec", lambda _name: None)
    assert call([str(part) for part in argv(tmp_path)]) == 0
    assert "onnxruntime is not installed: not verified" in capsys.readouterr().err
    assert open_artifact(tmp_path / FILES[0]).sidecar.parity is None
