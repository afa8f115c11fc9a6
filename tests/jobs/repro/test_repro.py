"""``repro``: a planted wrong node is found, and the folder shows it by itself; a healthy one does not."""

import hashlib
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.faults.calling import complaint, fine
from support.tiny import exported, tampered

from dpt_deploy.artifact.sidecar import ONNX
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.repro.repro import write_repro
from dpt_deploy.runtime.registry import RUNTIMES, Runtime

pytestmark = pytest.mark.needs("torch", "onnxruntime", "polygraphy")
SIZE = ("--size", "64x96")


def node_of(model, name):
    return next(node for node in model.graph.node if node.name == name)


def drop_a_readout(model):
    node = node_of(model, "reassemble.2.readout/Add")
    node.op_type = "Identity"
    del node.input[1]


def change_a_bias(model):
    tensor = next(t for t in model.graph.initializer if t.name == "fusion.2.unit.conv1.bias")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.1), tensor.name))


def scale_attention(model):
    node = node_of(model, "encoder.blocks.1.attn/Attention")
    kept = [entry for entry in node.attribute if entry.name != "scale"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("scale", 0.5)])


def permute_the_classes(model):
    (name,) = [t.name for t in model.graph.initializer if t.name.endswith("head.classifier.bias")]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.arange(7, dtype=np.float32), name))


def written(capsys, artifact, folder, *options):
    fine(capsys, "repro", artifact.path, *SIZE, "-o", folder, *options)
    return json.loads((folder / "repro.json").read_text())


def checked(folder):
    """The exit code and the words of the folder's own check, run apart from this package."""
    done = subprocess.run([sys.executable, "-I", "check.py"], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


CASES = [  # (network, what is done to its graph, the tensor that is wrong, the most nodes of its piece)
    ("tiny-vit", drop_a_readout, "reassemble.2.readout", 12),
    ("tiny-conv", change_a_bias, "fusion.2.unit.conv1", 3),
    ("tiny-vit", scale_attention, "encoder.blocks.1.attn", 30),
]


@pytest.mark.parametrize(("name", "change", "wrong", "most"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_wrong_node_is_cut_out_and_is_wrong_by_itself(name, change, wrong, most, tmp_path, capsys):
    found = written(capsys, tampered(exported(name), tmp_path / "m", change), tmp_path / "report")
    assert not found["whole"]
    assert [entry["name"] for entry in found["outputs"]] == [wrong]
    assert sum(found["operations"].values()) <= most
    code, said = checked(tmp_path / "report")
    assert (code, "WRONG" in said) == (1, True), said
    onnx.checker.check_model(str(tmp_path / "report/model.onnx"), full_check=True)


def test_a_piece_of_labels_is_found(tmp_path, capsys):
    spoiled = tampered(exported("tiny-seg", output_kind="labels"), tmp_path / "m", permute_the_classes)
    assert written(capsys, spoiled, tmp_path / "report")["outputs"][0]["name"] == "head.classifier"
    assert checked(tmp_path / "report")[0] == 1


def test_the_mended_piece_is_right(tmp_path, capsys):
    """The error is in the graph of the folder, not in its tensors: with the right weight the check passes."""
    written(capsys, tampered(exported("tiny-conv"), tmp_path / "m", change_a_bias), tmp_path / "report")
    model = onnx.load(tmp_path / "report/model.onnx")
    tensor = next(t for t in model.graph.initializer if t.name == "fusion.2.unit.conv1.bias")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) - np.float32(0.1), tensor.name))
    onnx.save(model, tmp_path / "report/model.onnx")
    code, said = checked(tmp_path / "report")
    assert code == 0, said


# --- a file that is right ---------------------------------------------------------------------------------------------


def test_a_right_file_has_no_piece_and_the_whole_graph_is_right(tmp_path, capsys):
    artifact = exported("tiny-vit")
    said = complaint(capsys, 2, "repro", artifact.path, *SIZE, "-o", tmp_path / "report")
    assert "is computed right in ort at 64x96" in said
    assert not (tmp_path / "report").exists()
    found = written(capsys, artifact, tmp_path / "report", "--whole")
    assert (found["whole"], found["passed"], found["error"]) == (True, True, None)
    assert "The file passes parity" in (tmp_path / "report/README.md").read_text()
    assert checked(tmp_path / "report")[0] == 0


def test_the_whole_graph_of_a_wrong_file_is_wrong(tmp_path, capsys):
    spoiled = tampered(exported("tiny-vit"), tmp_path / "m", drop_a_readout)
    found = written(capsys, spoiled, tmp_path / "report", "--whole")
    assert (found["whole"], found["passed"]) == (True, False)
    assert checked(tmp_path / "report")[0] == 1


# --- an engine that is wrong ------------------------------------------------------------------------------------------


@pytest.fixture
def wrong_engine(monkeypatch):
    record = Runtime("wrong", "support.wrong_runtime:WrongRunner", (ONNX,), "x", "x", ("onnx",), "export", ability="x")
    monkeypatch.setitem(RUNTIMES, "wrong", record)


@pytest.mark.usefixtures("wrong_engine")
def test_a_wrong_engine_gets_its_smallest_piece(tmp_path, capsys):
    """The engine is wrong about two nodes together: one of them alone would show nothing."""
    found = written(capsys, exported("tiny-conv"), tmp_path / "report", "--runtime", "wrong")
    assert found["operations"] == {"Conv": 1, "Relu": 1}
    assert found["reference"] == "runtime 'ort' of the same file"
    assert checked(tmp_path / "report")[0] == 0  # ONNX Runtime is right about it


# --- the folder -------------------------------------------------------------------------------------------------------


def add_private_words(model):
    drop_a_readout(model)
    model.doc_string = model.graph.node[-1].doc_string = "/people/alice/network.py"
    for node in model.graph.node:
        node.doc_string = "made by alice"
        node.metadata_props.add(key="stack", value="/people/alice/network.py")
    for tensor in model.graph.initializer:
        tensor.doc_string = "/people/alice/weights.pt"
    model.metadata_props.add(key="author", value="alice")


@pytest.fixture(scope="module", params=[False, True], ids=["piece", "whole"])
def report(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("repro")
    spoiled = tampered(exported("tiny-vit"), folder / "private-name-of-a-folder", add_private_words)
    return write_repro(spoiled.path, folder / "report", size=[Size(64, 96)], whole=request.param).folder


def polygraphy(folder, line):
    program = "import sys; from polygraphy.tools import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *line.split()[1:]], cwd=folder, capture_output=True, text=True, check=False
    )


def test_polygraphy_reads_it_and_finds_the_error(report):
    lines = (report / "README.md").read_text().splitlines()
    (line,) = [text for text in lines if "--onnxrt" in text and "--load-outputs" in text]
    done = polygraphy(report, line)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout
    limit = re.search(r"--atol (\S+)", line)[1]
    assert polygraphy(report, line.replace(limit, "1000")).returncode == 0  # it is the numbers that differ


def test_the_hashes_are_those_of_all_its_files(report):
    listed = dict(reversed(line.split("  ")) for line in (report / "SHA256SUMS").read_text().splitlines())
    there = {str(path.relative_to(report)) for path in report.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert set(listed) == there
    assert all(hashlib.sha256((report / name).read_bytes()).hexdigest() == digest for name, digest in listed.items())


def test_nothing_of_this_machine_is_in_it(report):
    for path in filter(Path.is_file, report.rglob("*")):
        assert [word for word in (b"private-name", b"alice") if word in path.read_bytes()] == [], path.name
    texts = (report / "repro.json").read_text() + (report / "README.md").read_text()
    assert [word for word in (str(Path.home()), f'{socket.gethostname()}"', "/tmp") if word in texts] == []


def test_raw_bytes_are_those_of_the_arrays(report):
    for path in report.rglob("*.npy"):
        assert path.with_suffix(".bin").read_bytes() == np.load(path).tobytes()


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--size", "50"], 2, "not a multiple of 32"),
        (["--size", "many"], 2, "many"),
        (["--runtime", "trt"], 2, "shows no tensor"),
        (["--runtime", "new"], 2, "known: ort, "),
        (["--weights", "x.pt"], 2, "random weights"),
    ],
)
def test_bad_options_are_refused(options, code, words, tmp_path, capsys):
    assert words in complaint(capsys, code, "repro", exported("tiny-vit").path, "-o", tmp_path / "report", *options)
    assert not (tmp_path / "report").exists()


def test_other_files_are_not_replaced(tmp_path, capsys):
    (tmp_path / "thesis.txt").touch()
    said = complaint(capsys, 2, "repro", exported("tiny-vit").path, "--whole", *SIZE, "-o", tmp_path, "--force")
    assert "holds other files" in said


def test_a_damaged_file_is_named(tmp_path, capsys):
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    complaint(capsys, 4, "repro", tmp_path / "x.onnx", "-o", tmp_path / "report")


def test_a_flat_sky_is_right_and_a_wrong_one_is_measured_on_its_scale(tmp_path):
    """A picture without sky has zeros, which have no range of their own."""
    folder = write_repro(exported("tiny-sky").path, tmp_path / "report", size=[Size(70, 98)], whole=True).folder
    path = folder / "repro.json"
    facts = json.loads(path.read_text())
    entry = next(each for each in facts["outputs"] if each["name"] == "sky")
    assert entry["range"] >= 1.0
    run = [sys.executable, str(folder / "check.py")]
    assert subprocess.run(run, check=False).returncode == 0
    flat = np.load(folder / entry["file"])
    np.save(folder / entry["file"], np.full_like(flat, flat.flat[0] + 0.5))
    assert subprocess.run(run, check=False).returncode == 1
