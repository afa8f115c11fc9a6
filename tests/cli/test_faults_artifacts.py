"""Artefacts that are not what they should be, through every command that reads them; and modules that are missing."""

import os
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import onnx
import pytest
from support.faults.calling import complaint, fine
from support.faults.handmade import handmade, listing
from support.tiny import copied, exported, recommitted, tampered

import dpt_deploy
from dpt_deploy.artifact.store import Artifact, open_artifact, payload_of, read_sidecar, sidecar_path, write_sidecar
from dpt_deploy.jobs.verify import verify

READERS = {
    "inspect": ("inspect",),
    "verify": ("verify",),
    "golden": ("verify", "--golden"),
    "run": ("run", "photo.png"),
    "bench": ("bench", "--seconds", "0.01"),
}
readers = pytest.mark.parametrize("command", READERS.values(), ids=READERS)


@pytest.fixture
def artifact(tmp_path):
    return copied(exported("tiny-vit"), tmp_path / "out")


def refused(capsys, command, path, code=4):
    """The complaint of a command about ``path``, which may change nothing next to it."""
    before = listing(path.parent)
    said = complaint(capsys, code, command[0], path, *command[1:])
    assert listing(path.parent) == before
    return said


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


SPOILED = {
    "graph changed": (flip, "does not match its sidecar"),
    "graph cut": (lambda path: os.truncate(path, 1000), "has 1000 bytes, its sidecar says"),
    "graph empty": (lambda path: os.truncate(path, 0), "has 0 bytes"),
    "graph gone": (lambda path: path.unlink(), "does not exist"),
    "golden changed": (lambda path: flip(path.with_name(f"{path.name}.golden.npz")), "does not match its sidecar"),
    "golden gone": (lambda path: path.with_name(f"{path.name}.golden.npz").unlink(), "is missing from the artefact"),
    "sidecar gone": (lambda path: sidecar_path(path).unlink(), "it is unfinished, or was moved without it"),
    "sidecar text": (lambda path: sidecar_path(path).write_text("hello"), "cannot be read: it is not JSON"),
    "sidecar newer": (lambda path: sidecar_path(path).write_text('{"format": 9}'), "its format is 9; this program"),
}


@readers
@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_artefact_is_refused_by_every_command(spoil, said, command, artifact, capsys):
    spoil(artifact.path)
    assert said in refused(capsys, command, artifact.path)


@readers
@pytest.mark.parametrize("name", ["", "absent.onnx", "tiny-vit-fp32.onnx.json", "n" * 300], ids=lambda name: name[:9])
def test_what_is_no_artefact_is_refused_by_every_command(name, command, artifact, capsys):
    refused(capsys, command, artifact.path.with_name(name) if name else artifact.path.parent)


@pytest.mark.parametrize("command", [READERS["inspect"], READERS["golden"]], ids=["inspect", "golden"])
def test_a_whole_artefact_is_accepted(command, artifact, capsys):
    fine(capsys, command[0], artifact.path, *command[1:])


@readers
def test_a_renamed_model_is_refused(command, artifact, capsys):
    renamed = artifact.path.rename(artifact.path.with_name("best.onnx"))
    assert "has no sidecar best.onnx.json" in refused(capsys, command, renamed)


def with_external_data(artifact):
    """Copy an artefact with its weights in ``.data``, as a large model has them."""
    graph = onnx.load(artifact.path)
    data = f"{artifact.path.name}.data"
    onnx.save(graph, artifact.path, save_as_external_data=True, location=data, size_threshold=1024)
    text = sidecar_path(artifact.path).read_text()
    first = f'{{"name": "{data}", "sha256": "", "size_bytes": 0}}, '
    sidecar_path(artifact.path).write_text(text.replace('"payloads": [', f'"payloads": [{first}'))
    return recommitted(Artifact(artifact.path, read_sidecar(artifact.path)))


def test_external_data_of_another_model_is_refused(artifact, tmp_path, capsys):
    mine = with_external_data(artifact)
    fine(capsys, "verify", mine.path, "--golden")
    data = mine.path.with_name(f"{mine.path.name}.data")
    whole = data.read_bytes()
    data.write_bytes(np.random.default_rng(0).bytes(len(whole)))
    assert "does not match its sidecar" in refused(capsys, ("verify", "--golden"), mine.path)
    data.write_bytes(whole)
    fine(capsys, "verify", mine.path, "--golden")


@readers
def test_a_graph_that_is_no_onnx_is_refused_though_its_sidecar_is_valid(command, tmp_path, capsys):
    path = handmade(tmp_path / "out").path
    (tmp_path / "photo.png").touch()
    argv = [str(tmp_path / "photo.png") if part == "photo.png" else part for part in command]
    said = refused(capsys, argv, path)
    if command[0] in ("inspect", "bench"):
        assert "is not an ONNX file" in said
    elif "--golden" not in command:
        assert "ONNX Runtime" in said


def named(place):
    """A change of a graph: its largest weight lies in the file ``place``."""

    def change(graph):
        tensor = max(graph.graph.initializer, key=lambda each: len(each.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    return change


@readers
@pytest.mark.parametrize("place", ["other.data", "../other.data", "/etc/hostname"])
def test_external_data_that_the_sidecar_does_not_list_is_refused(place, command, artifact, capsys):
    graph = onnx.load(artifact.path)
    named(place)(graph)
    onnx.save(graph, artifact.path)
    recorded = replace(artifact.sidecar.payloads[0], **vars(payload_of(artifact.path)))
    others = [each for each in artifact.sidecar.payloads if each.name != recorded.name]
    write_sidecar(artifact.path, replace(artifact.sidecar, payloads=(recorded, *others)))
    artifact.path.with_name("other.data").write_bytes(bytes(1 << 20))
    assert "which its sidecar does not list" in refused(capsys, command, artifact.path)


def test_external_data_that_is_a_link_out_of_the_folder_is_refused(artifact, tmp_path, capsys):
    mine = with_external_data(artifact)
    data = mine.path.with_name(f"{mine.path.name}.data")
    data.symlink_to(data.rename(tmp_path / "elsewhere"))
    assert "is a link out of the artefact's folder" in refused(capsys, ("inspect",), mine.path)


def no_opset(graph):
    del graph.opset_import[:]


def no_nodes(graph):
    del graph.graph.node[:]


def rank_1(graph):
    output = graph.graph.output[0]
    del output.type.tensor_type.shape.dim[1:]
    last = next(node for node in graph.graph.node if output.name in node.output)
    last.output[0] = "map"
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "flat"))
    graph.graph.node.append(onnx.helper.make_node("Reshape", ["map", "flat"], [output.name]))


def huge(graph):
    for dim, size in zip(graph.graph.output[0].type.tensor_type.shape.dim, (1, 36000, 36000), strict=True):
        dim.dim_value = size


STRANGE = {
    "no opset": (no_opset, "inspect", "names no opset"),
    "no operations": (no_nodes, "inspect", "has no operations"),
    "rank 1": (rank_1, "verify", "its sidecar says predicted_depth"),
    "huge": (huge, "verify", "predicted_depth has 5,184,000,000 bytes of an output"),
}


@pytest.mark.parametrize(("change", "command", "said"), STRANGE.values(), ids=STRANGE)
def test_a_graph_that_is_not_of_its_sidecar_is_refused(change, command, said, tmp_path, capsys):
    path = tampered(exported("tiny-vit"), tmp_path / "out", change).path
    argv = [command, path, *(["--golden"] if command == "verify" else [])]
    assert said in complaint(capsys, 4, *argv)


GOLDEN = {
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "no archive": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "other arrays": lambda path: np.savez(path.open("wb"), left=np.zeros(3)),
    "pickle": lambda path: np.savez(path.open("wb"), images=np.array([{}], dtype=object), output=np.zeros(3)),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("make", GOLDEN.values(), ids=GOLDEN)
def test_golden_tensors_that_are_none_are_refused_though_hashes_fit(make, artifact, capsys):
    make(artifact.path.with_name(artifact.sidecar.golden))
    recommitted(artifact)
    assert "golden tensors" in refused(capsys, ("verify", "--golden"), artifact.path)


def test_an_artefact_without_golden_tensors_says_so(artifact, capsys):
    text = sidecar_path(artifact.path).read_text()
    sidecar_path(artifact.path).write_text(text.replace(f'"golden": "{artifact.sidecar.golden}"', '"golden": ""'))
    assert "has no golden tensors" in refused(capsys, ("verify", "--golden"), artifact.path)


def test_an_artefact_replaced_while_it_is_verified_keeps_its_own_sidecar(artifact, monkeypatch, capsys):
    record = verify.record

    def replaced(opened, sidecar):
        flip(artifact.path)
        recommitted(artifact)
        return record(opened, sidecar)

    monkeypatch.setattr(verify, "record", replaced)
    assert "exported again meanwhile" in complaint(capsys, 4, "verify", artifact.path, "--res", "32", "--batch", "1")
    open_artifact(artifact.path)


# --- modules ----------------------------------------------------------------------------------------------------------

MISSING = {
    "onnxruntime": (("verify", "--golden"), "ort"),
    "onnx": (("inspect",), "export"),
    "torch": (("verify",), "export"),
    "cv2": (("run", "photo.png"), "images"),
}
ROOMS = ("graph", "imaging", "jobs", "model", "runtime")  # where optional modules are imported


@pytest.mark.parametrize("module", MISSING)
def test_a_missing_module_is_named_with_its_pip_line(module, artifact, monkeypatch, capsys):
    command, which = MISSING[module]
    for room in ROOMS:  # forgotten, so that the command imports them anew; what is there comes back after the test
        import_module(f"dpt_deploy.{room}")
        monkeypatch.delattr(dpt_deploy, room)
        for name in [name for name in sys.modules if f"{name}.".startswith(f"dpt_deploy.{room}.")]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(capsys, command, artifact.path, code=3)
    assert f"needs the module '{module}', which is not installed" in said
    assert f"pip install -e '.[{which}]'" in said
