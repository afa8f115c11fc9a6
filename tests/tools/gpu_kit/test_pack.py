"""The kit for GPU machines, packed from fake wheels: its contents, and its parts put together again."""

import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from support import kit as fake
from support.paths import ROOT


def test_a_kit_holds_its_licence_a_warning_and_all_that_runs_it(packed, modules):
    assert (packed / "NVIDIA-LICENSE.txt").read_text() == "You may."
    assert "For the packer's own use" in (packed / "README.txt").read_text()
    assert {"run.sh", "steps.py", "models.py", "work.py", "report.py", "probe.py", "archives.py"} <= {
        p.name for p in packed.iterdir()
    }
    manifest = modules["archives"].read_manifest(packed)
    assert [group.name for group in manifest.groups] == ["source", "wheels", "tensorrt-rtx-9.9.9.9", "rtx-fronts"]
    assert all(part.size_bytes <= 30 << 20 for group in manifest.groups for part in group.parts)


def test_what_was_packed_is_not_packed_again_and_what_changed_is(modules, options, tmp_path):
    pack, archives = modules["pack"], modules["archives"]
    mine = pack.replace(options, out=tmp_path / "kit")
    pack.pack(mine, say=lambda _line: None)
    before = {path.name: path.stat().st_mtime_ns for path in mine.out.glob("*.tar.xz.*")}
    fake.damaged(mine.out / "rtx-fronts.tar.xz.00")
    said = []
    one_more = fake.wheel(tmp_path, "one_more", {"one_more.py": ""})
    changed = pack.replace(mine, have=frozenset({"other"}), extra=(str(one_more),))
    pack.pack(changed, say=said.append)
    after = {path.name: path.stat().st_mtime_ns for path in mine.out.glob("*.tar.xz.*")}
    assert {name for name in before if before[name] != after[name]} == {"wheels.tar.xz.00", "rtx-fronts.tar.xz.00"}
    assert [line for line in said if "unchanged" in line] == ["source: unchanged", "tensorrt-rtx-9.9.9.9: unchanged"]
    assert archives.read_manifest(mine.out).group("wheels").folders == ("fake-1.0", "one_more-1.0")


def test_an_interrupted_packing_is_no_kit_and_goes_on(modules, options, tmp_path):
    pack, archives = modules["pack"], modules["archives"]
    mine = pack.replace(options, out=tmp_path / "kit")

    def stop(line):
        if line.startswith("fetching TensorRT-RTX"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack.pack(mine, say=stop)
    with pytest.raises(archives.KitError, match="is no kit"):
        archives.read_manifest(mine.out)
    said = []
    pack.pack(mine, say=said.append)
    assert {"source: unchanged", "wheels: unchanged"} <= set(said)


def test_tensorrt_without_its_licence_is_not_packed(modules, options, tmp_path):
    wheels = tmp_path / "wheels"
    shutil.copytree(options.wheels, wheels)
    fake.rtx_wheels(wheels, licence="")
    pack = modules["pack"]
    with pytest.raises(modules["archives"].KitError, match="goes with NVIDIA's licence or not at all"):
        pack.pack(pack.replace(options, out=tmp_path / "kit", wheels=wheels), say=lambda _line: None)


def test_the_cpp_library_is_packed_by_the_names_that_loaders_use(modules, options, tmp_path):
    pack, archives = modules["pack"], modules["archives"]
    built = tmp_path / "built"
    built.mkdir()
    (built / "libdpt.so").write_bytes(b"library")
    mine = pack.replace(options, out=tmp_path / "kit", native=built)
    with pytest.raises(archives.KitError, match="has no dpt_bench: build cpp/ there first, with TENSORRT_ROOT set"):
        pack.pack(mine, say=lambda _line: None)
    (built / "dpt_bench").write_bytes(b"program")
    group = pack.pack(mine, say=lambda _line: None).group("native")
    archives.unpack_group(group, tmp_path / "there", [mine.out])
    assert {path.name for path in (tmp_path / "there/native").iterdir()} == {"libdpt.so", "libdpt.so.0", "dpt_bench"}


def test_a_wheel_that_cannot_be_had_is_one_clear_line(modules, options, tmp_path):
    pack = modules["pack"]
    with pytest.raises(modules["archives"].KitError, match=r"pip download failed: ERROR: .*tensorrt_rtx_cu13_libs"):
        pack.pack(pack.replace(options, out=tmp_path / "kit", rtx=("1.2.3",)), say=lambda _line: None)


def test_parts_come_together_again(modules, tmp_path):
    archives = modules["archives"]
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/noise").write_bytes(os.urandom(10_000))
    (tmp_path / "in/tool").write_text("#!/bin/sh\n")
    (tmp_path / "in/tool").chmod(0o755)
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(archives.write_group(tmp_path / name, "g", {"folder": tmp_path / "in"}, {}, limit=3000))
    assert made[0] == made[1]  # the same bytes each time
    assert max(part.size_bytes for part in made[0].parts) == 3000
    archives.unpack_group(made[0], tmp_path / "out", [tmp_path / "one"])
    assert (tmp_path / "out/folder/deep/noise").read_bytes() == (tmp_path / "in/deep/noise").read_bytes()
    assert os.access(tmp_path / "out/folder/tool", os.X_OK)


@pytest.mark.parametrize(("cuda", "version"), [("12", "12."), ("13", "13.")])
def test_cuda_python_is_of_the_drivers_version(cuda, version, modules, tmp_path, monkeypatch):
    pack, asked = modules["pack"], []
    monkeypatch.setattr(pack, "_fetched", lambda *given, bound=(), plain=(): asked.append([*given[2], *bound, *plain]))
    options = pack.PackOptions(tmp_path, cuda=cuda, root=ROOT, rtx=("1.2.3",))
    list(pack._wanted(options, tmp_path, lambda _line: None))
    pins = dict(re.findall(r"^([\w-]+)==(.+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    found = {name: each for name, _, each in (line.partition("==") for line in asked[0]) if name.startswith("cuda-")}
    assert all((found[name] or pins[name]).startswith(version) for name in ("cuda-python", "cuda-bindings"))
    assert sum(line.startswith("cuda-python") for line in asked[0]) == 1
    assert f"tensorrt_rtx_cu{cuda}_libs==1.2.3" in asked[1]


def test_what_a_machine_has_is_read_from_pip(modules):
    listed = "Package   Version\n--------- -------\nml_dtypes 0.6.0\nonnx==1.23.1\n\nPyYAML, typing.extensions"
    assert modules["pack"].names_in(listed) >= {"ml-dtypes", "onnx", "pyyaml", "typing-extensions"}


def test_the_list_of_wheels_covers_the_requirements_each_with_one_version(modules):
    normal = modules["pack"]._normal
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["export"], *extras["ort"], "pytest", "cuda-python", "cuda-core"]
    listed = [line.partition("#")[0].strip() for line in (ROOT / "tools/gpu_kit/wheels.txt").read_text().splitlines()]
    names = {normal(line.partition("==")[0]): "==" in line for line in listed if line}
    needed = {normal(re.match(r"[\w-]+", text)[0]) for text in wanted} - {"torch", "torchvision"}
    assert needed <= set(names)
    pinned = {normal(name) for name in re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)}
    assert {name for name, own in names.items() if own == (name in pinned)} == set()


def test_the_versions_of_the_kit_are_those_of_the_table_of_limits(modules):
    assert modules["pack"].RTX_VERSIONS[0] in (ROOT / "constraints.txt").read_text()
    assert [limit for step in modules["steps"].steps(_anywhere(modules)) if (limit := step.seconds) > 480] == []


def _anywhere(modules):
    return modules["work"].Place(Path(), Path(), Path())
