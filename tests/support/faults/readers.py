"""Every reader of files, with a valid file of its kind, the mutations that fit it, and the code that reads it.

As a program (``python -m support.faults.readers READER NUMBER``, in ``tests/``) it repeats one case; ``NUMBER`` may be
a range such as ``0-2000``.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import tomllib
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from safetensors.torch import save
from support.bags import drive
from support.faults.mutations import mutated_bytes, mutated_json, mutated_toml, mutated_tree
from support.tiny import copied, exported, recommitted, tiny_model, tiny_path, tiny_spec

from dpt_deploy.artifact.store import sidecar_path
from dpt_deploy.cli import call
from dpt_deploy.core.errors import DptError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.imaging.files import read_image
from dpt_deploy.imaging.video import iter_video
from dpt_deploy.jobs.bench.baseline import read_baseline
from dpt_deploy.jobs.predict.intrinsics import read_intrinsics
from dpt_deploy.jobs.predict.ros.bag import CAMERA_INFO
from dpt_deploy.jobs.predict.ros.frames import camera_of
from dpt_deploy.jobs.predict.ros.pictures import COMPRESSED, IMAGE, pixels_of
from dpt_deploy.jobs.predict.ros.store import opened_bag
from dpt_deploy.jobs.study.agreement import read_recorded, read_scores
from dpt_deploy.jobs.study.journal import Journal
from dpt_deploy.jobs.train.config import read_training
from dpt_deploy.jobs.verify.golden import read_golden
from dpt_deploy.model.build import build
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import load_native, load_weights
from dpt_deploy.model.families.native import header_of

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks/results"
TINY = "tiny-vit"
INTERNAL = 1  # exit code of a defect
Mutate = Callable[[bytes, Random], tuple[bytes, str]]


@dataclass(frozen=True)
class Reader:
    """``valid`` makes the bytes of a file; ``read`` reads the file at a path, in a folder of its own."""

    valid: Callable[[], bytes]
    mutate: Mutate
    read: Callable[[Path], Any]
    name: str


def attempt(name: str, number: int, folder: Path) -> str:
    """Read one mutated file: empty, or the defect that was found."""
    reader = READERS[name]
    random = Random(f"{name} {number}")
    data, said = reader.mutate(_valid(name), random)
    path = folder / reader.name
    path.write_bytes(data)
    quiet = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            reader.read(path)
    except DptError as exc:
        if exc.exit_code == INTERNAL or not str(exc) or not exc.hint:
            return _found(name, number, said, repr(exc))
    except Exception as exc:  # noqa: BLE001  the purpose of the test: any other class is a defect
        return _found(name, number, said, repr(exc)[:300])
    return ""


def _found(name: str, number: int, said: str, what: str) -> str:
    return f"{what}\n  {said}\n  reproduce: cd tests && python -m support.faults.readers {name} {number}"


_FILES: dict[str, bytes] = {}


def _valid(name: str) -> bytes:
    if name not in _FILES:
        _FILES[name] = READERS[name].valid()
    return _FILES[name]


def _command(*argv: object) -> None:
    """A command in this process; an internal error is one."""
    if call([str(arg) for arg in argv]) == INTERNAL:
        raise RuntimeError("exit code 1")


# --- valid files ------------------------------------------------------------------------------------------------------


def _artifact_with(path: Path, *, graph: bytes | None = None) -> Path:
    """The tiny artefact in the folder of ``path``, with that graph and fitting hashes if one is given."""
    folder = path.parent / "artifact"
    artifact = copied(exported(TINY), folder)
    if graph is not None:
        artifact.path.write_bytes(graph)
        artifact = recommitted(artifact)
    return artifact.path


def _read_sidecar(path: Path) -> None:
    model = _artifact_with(path)
    sidecar_path(model).write_bytes(path.read_bytes())
    _command("inspect", model)


def _read_sidecar_and_run(path: Path) -> None:
    model = _artifact_with(path)
    sidecar_path(model).write_bytes(path.read_bytes())
    _command("verify", model, "--golden")


def _read_graph(path: Path) -> None:
    model = _artifact_with(path, graph=path.read_bytes())
    _command("inspect", model)
    _command("verify", model, "--golden")


def _table(path: str | Path) -> bytes:
    return json.dumps(tomllib.loads(Path(path).read_text())).encode()


def _recipe(name: str) -> Callable[[], bytes]:
    def valid() -> bytes:
        table = json.loads(_table(tiny_path(name)))
        return json.dumps({"name": "small", **table}).encode()

    return valid


def _read_recipe(path: Path) -> None:
    recipe = load_recipe(str(path))
    if recipe.model.encoder.tokens is None or recipe.model.encoder.blocks < 32:
        build(recipe.model)


def _short(path: Path, rows: int) -> bytes:
    """A recorded result whose long lists are cut: most mutations then hit what is read."""
    return json.dumps(_cut(json.loads(path.read_bytes()), rows)).encode()


def _cut(value: Any, rows: int) -> Any:
    if isinstance(value, dict):
        return {key: _cut(part, rows) for key, part in value.items()}
    return [_cut(part, rows) for part in value[:rows]] if isinstance(value, list) else value


def _safetensors() -> bytes:
    model = tiny_model(TINY)
    return save(dict(model.state_dict()), metadata=header_of(model.spec))


def _huggingface_config() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_huggingface(tiny_model(TINY), Path(folder), image=load_recipe(tiny_path(TINY)).image)
        _FILES["huggingface weights"] = (Path(folder) / "model.safetensors").read_bytes()
        return (Path(folder) / "config.json").read_bytes()


def _read_huggingface(path: Path) -> None:
    (path.parent / "model.safetensors").write_bytes(_FILES["huggingface weights"])
    load_weights(tiny_spec(TINY), path.parent)


def _torch_file(**options: Any) -> Callable[[], bytes]:
    def valid() -> bytes:
        stream = io.BytesIO()
        whole = tiny_model(TINY).state_dict()
        state = {key: value[..., :1].clone() if value.ndim else value for key, value in whole.items()}
        torch.save({"model": state, "epoch": 3}, stream, **options)
        return stream.getvalue()

    return valid


def _graph() -> bytes:
    return exported(TINY).path.read_bytes()


def _golden() -> bytes:
    artifact = exported(TINY)
    assert artifact.golden_path is not None
    return artifact.golden_path.read_bytes()


def _image(suffix: str, **options: Any) -> Callable[[], bytes]:
    def valid() -> bytes:
        pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        found, data = cv2.imencode(suffix, pixels, **options)
        assert found
        return bytes(data)

    return valid


def _video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (32, 32))
        for index in range(6):
            writer.write(np.full((32, 32, 3), 40 * index, np.uint8))
        writer.release()
        return path.read_bytes()


def _bag(name: str, **options: Any) -> Callable[[], bytes]:
    def valid() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = drive(Path(folder) / name, **options)
            return (next(path.glob("*.mcap")) if path.is_dir() else path).read_bytes()

    return valid


def _read_bag(path: Path) -> None:
    with opened_bag(path) as bag:
        for connection, _, data in bag.messages():
            with contextlib.suppress(DptError):  # of one message; `run` goes on past it
                message = bag.message(connection, data)
                if connection.msgtype == CAMERA_INFO:
                    camera_of(message, connection.topic)
                elif connection.msgtype in (IMAGE, COMPRESSED):
                    pixels_of(message, connection.topic)


def _journal() -> bytes:
    line = {"subject": "a", "size": "64", "image": "scene 1", "errors": {"abs_rel": 0.5}}
    return "\n".join(json.dumps({**line, "image": f"scene {index}"}) for index in range(5)).encode()


# --- mutations of one format ------------------------------------------------------------------------------------------


def mutated_header(data: bytes, random: Random) -> tuple[bytes, str]:
    """A safetensors file whose header was changed, or its length, or its bytes."""
    size = int.from_bytes(data[:8], "little")
    if random.random() < 0.2:
        return mutated_bytes(data, random)
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    if random.random() < 0.5:  # the description of the network, which is JSON in a string
        described, said = mutated_json(header["__metadata__"]["dpt_deploy.spec"].encode(), random)
        header["__metadata__"]["dpt_deploy.spec"] = described.decode(errors="replace")
    else:
        header, said = mutated_tree(header, random)
    text = json.dumps(header).encode()
    length = len(text) if random.random() < 0.9 else random.choice((0, 1, 2**40, 2**63, len(text) + 1))
    return length.to_bytes(8, "little") + text + rest, said


def mutated_archive(data: bytes, random: Random) -> tuple[bytes, str]:
    """A ``.npz`` or ``.pth`` with a member changed, left out, twice or deflated, or with changed bytes."""
    if random.random() < 0.4:
        return mutated_bytes(data, random)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    index = random.randrange(len(members))
    name, content = members[index]
    kind = random.choice(("change", "change", "header", "leave out", "rename", "bomb"))
    if kind == "change":
        members[index] = name, mutated_bytes(content, random)[0]
    elif kind == "header":
        members[index] = name, content.replace(b"(", random.choice((b"(9", b"(99999999, ", b"((", b"(-")), 1)
    elif kind == "leave out":
        del members[index]
    elif kind == "rename":
        members[index] = random.choice(("x", "../x", "images.npy", "a/data.pkl", "constants.pkl")), content
    else:
        members[index] = name, content[:128] + bytes(1 << 20)
    stream = io.BytesIO()
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", packing) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue(), f"{kind} {name}"


def mutated_graph(data: bytes, random: Random) -> tuple[bytes, str]:
    """An ONNX file with a part left out, renamed, retyped or pointed elsewhere, or with changed bytes."""
    if random.random() < 0.3:
        return mutated_bytes(data, random)
    model = onnx.ModelProto.FromString(data)
    change = random.choice(GRAPH_CHANGES)
    change(model, random)
    return model.SerializeToString(), change.__name__


def no_opset(model: Any, random: Random) -> None:
    del model.opset_import[:]


def odd_opset(model: Any, random: Random) -> None:
    model.opset_import[0].version = random.choice((0, -1, 1, 9999, 2**62))


def odd_domain(model: Any, random: Random) -> None:
    model.opset_import[0].domain = random.choice(("x", "ai.onnx.ml", "com.microsoft"))


def no_nodes(model: Any, random: Random) -> None:
    del model.graph.node[random.choice((0, 1, len(model.graph.node) // 2)) :]


def fewer_nodes(model: Any, random: Random) -> None:
    del model.graph.node[random.randrange(len(model.graph.node))]


def no_ends(model: Any, random: Random) -> None:
    del (model.graph.input if random.random() < 0.5 else model.graph.output)[:]


def odd_shape(model: Any, random: Random) -> None:
    dims = random.choice((model.graph.input, model.graph.output))[0].type.tensor_type.shape.dim
    if random.random() < 0.5:
        del dims[random.randrange(len(dims)) :]
    else:
        dims[random.randrange(len(dims))].dim_value = random.choice((0, -1, 1, 36000, 2**40, 2**62))


def odd_type(model: Any, random: Random) -> None:
    end = random.choice((model.graph.input, model.graph.output))[0]
    if random.random() < 0.3:
        end.type.Clear()
    else:
        end.type.tensor_type.elem_type = random.choice((0, 2, 8, 10, 99))


def renamed(model: Any, random: Random) -> None:
    node = random.choice(model.graph.node)
    random.choice((node.input, node.output))[0:1] = [random.choice(("", "nothing", "x" * 5000, "\x1b]0;x"))]


def odd_operator(model: Any, random: Random) -> None:
    random.choice(model.graph.node).op_type = random.choice(("", "Loop", "If", "Nothing", "Identity", "Reshape"))


def no_attributes(model: Any, random: Random) -> None:
    del random.choice([node for node in model.graph.node if node.attribute] or model.graph.node).attribute[:]


def odd_weight(model: Any, random: Random) -> None:
    tensor = random.choice(model.graph.initializer)
    if random.random() < 0.5:
        tensor.dims[:] = random.choice(([], [-1], [0], [2**40], [1] * 50, [3, 3]))
    else:
        tensor.data_type = random.choice((0, 8, 16, 99))


def no_weight(model: Any, random: Random) -> None:
    del model.graph.initializer[random.randrange(len(model.graph.initializer))]


def elsewhere(model: Any, random: Random) -> None:
    tensor = random.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    places = ("/etc/passwd", "../x", "tiny-vit-fp32.onnx.data", "", ".", "*/_ORT_MEM_ADDR_/*")
    tensor.external_data.add(key="location", value=random.choice(places))
    tensor.external_data.add(key="offset", value=random.choice(("0", "-1", "x", "9" * 50)))


GRAPH_CHANGES = (
    no_opset,
    odd_opset,
    odd_domain,
    no_nodes,
    fewer_nodes,
    no_ends,
    odd_shape,
    odd_shape,
    odd_type,
    renamed,
    odd_operator,
    no_attributes,
    odd_weight,
    no_weight,
    elsewhere,
)


def _read_study(path: Path) -> None:
    read_recorded(path)
    read_scores(path)


def _read_checkpoint(path: Path) -> None:
    load_weights(tiny_spec(TINY), path)


_SIDECAR = Reader(lambda: sidecar_path(exported(TINY).path).read_bytes(), mutated_json, _read_sidecar, "sidecar.json")
_GRAPH = Reader(_graph, mutated_graph, _read_graph, "graph.onnx")

READERS = {
    "sidecar": _SIDECAR,
    "sidecar-run": replace(_SIDECAR, read=_read_sidecar_and_run),
    "recipe": Reader(_recipe(TINY), mutated_toml, _read_recipe, "small.toml"),
    "recipe-hybrid": Reader(_recipe("tiny-hybrid"), mutated_toml, _read_recipe, "small.toml"),
    "recipe-cnn": Reader(_recipe("tiny-conv"), mutated_toml, _read_recipe, "small.toml"),
    "training": Reader(
        lambda: _table(ROOT / "benchmarks/trainings/tiny-vit.toml"), mutated_toml, read_training, "training.toml"
    ),
    "onnx": _GRAPH,
    "safetensors": Reader(_safetensors, mutated_header, load_native, "small.safetensors"),
    "huggingface": Reader(_huggingface_config, mutated_json, _read_huggingface, "config.json"),
    "torch": Reader(_torch_file(), mutated_archive, _read_checkpoint, "small.pth"),
    "torch-legacy": Reader(
        _torch_file(_use_new_zipfile_serialization=False), mutated_bytes, _read_checkpoint, "small.pth"
    ),
    "golden": Reader(
        _golden, mutated_archive, lambda path: read_golden(path, exported(TINY).sidecar.outputs), "golden.npz"
    ),
    "png": Reader(_image(".png"), mutated_bytes, read_image, "image.png"),
    "jpeg": Reader(_image(".jpg"), mutated_bytes, read_image, "image.jpg"),
    "video": Reader(_video, mutated_bytes, lambda path: list(iter_video(path).frames), "clip.mp4"),
    "study": Reader(
        lambda: _short(RESULTS / "resolution-study-shipped-20261126.json", 3), mutated_json, _read_study, "study.json"
    ),
    "baseline": Reader(
        lambda: _short(RESULTS / "latency-base-amd-epyc-2c-torch2.14.1-ort1.31.1-20261121.json", 4),
        mutated_json,
        read_baseline,
        "bench.json",
    ),
    "intrinsics": Reader(
        lambda: json.dumps({"K": [500, 0, 320, 0, 500, 240, 0, 0, 1], "width": 640, "height": 480}).encode(),
        mutated_json,
        read_intrinsics,
        "camera.json",
    ),
    "bag": Reader(_bag("a.bag"), mutated_bytes, _read_bag, "a.bag"),
    "bag-compressed": Reader(_bag("a.bag", small=True), mutated_bytes, _read_bag, "a.bag"),
    "mcap": Reader(_bag("a", mcap=True), mutated_bytes, _read_bag, "a.mcap"),
    "journal": Reader(_journal, mutated_bytes, Journal, "scores.jsonl"),
}


def main() -> None:
    name, numbers = sys.argv[1:3]
    first, _, last = numbers.partition("-")
    for number in range(int(first), int(last or first) + 1):
        with tempfile.TemporaryDirectory() as folder:
            found = attempt(name, number, Path(folder))
        if found:
            print(found)
            if not last:  # once more, for the traceback
                _raise(name, number)


def _raise(name: str, number: int) -> None:
    data, _ = READERS[name].mutate(_valid(name), Random(f"{name} {number}"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / READERS[name].name
        path.write_bytes(data)
        READERS[name].read(path)


if __name__ == "__main__":
    main()
