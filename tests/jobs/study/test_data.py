"""A study on a data set: its protocol, its failures, and the paper's number next to the measured one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from support.faults.calling import complaint, fine
from support.study_runs import arguments, outcome, setup_of
from support.tiny import copied, exported

from dpt_deploy.artifact.store import write_sidecar
from dpt_deploy.core.errors import BadFileError, ParityError
from dpt_deploy.datasets.base import Dataset, depth_sample
from dpt_deploy.datasets.protocols import PROTOCOLS
from dpt_deploy.jobs.study import images as study_images
from dpt_deploy.jobs.study import study


@pytest.fixture(scope="module")
def paths():
    return [str(exported("tiny-vit").path)]


@pytest.fixture
def calling(paths, tmp_path):
    return partial(arguments, tmp_path, paths)


class Ramps:
    """A reader of images twice as wide as high, whose depth grows to the right; the last one cannot be read."""

    names = ("a", "b", "c", "broken")

    def read(self, index):
        if index == 3:
            raise BadFileError("its depth map is cut short", hint="fetch it again")
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (48, 96, 3), dtype=np.uint8)
        return depth_sample(self.names[index], image, np.tile(np.linspace(1, 5 + index, 96), (48, 1)))


@pytest.fixture
def ramps(monkeypatch):
    def open_dataset(spec):
        name = spec.partition(":")[0]
        return Dataset(name, PROTOCOLS[name], Ramps())

    monkeypatch.setattr(study_images, "open_dataset", open_dataset)


def test_a_data_set_is_evaluated_by_its_own_protocol_with_its_aspect_kept(
    calling, ramps, paths, tmp_path, monkeypatch, capsys
):
    shapes = []
    real = study_images.Images.errors
    monkeypatch.setattr(
        study_images.Images,
        "errors",
        lambda self, output, sample: shapes.append(output.shape) or real(self, output, sample),
    )
    fine(capsys, *calling("--data", f"eth3d:{tmp_path}", models=paths[:1], res="128,192"))
    assert sorted(set(shapes)) == [(64, 96), (64, 128), (96, 192)]
    found = outcome(tmp_path)
    assert found["images"] == ["a", "b", "c"]
    assert found["failures"][0]["image"] == "broken"
    assert "72 m" in found["data"]["protocol"]


def test_the_first_images_alone_on_request(calling, ramps, paths, tmp_path, capsys):
    fine(capsys, *calling("--data", f"eth3d:{tmp_path}", "--limit", 2, models=paths[:1]))
    assert outcome(tmp_path)["images"] == ["a", "b"]


def test_the_papers_number_is_next_to_the_measured_one_at_the_papers_size(calling, ramps, tmp_path, capsys):
    artifact = copied(exported("tiny-vit"), tmp_path / "models")
    sidecar = artifact.sidecar
    called = replace(
        sidecar, model=replace(sidecar.model, name="hybrid"), image=replace(sidecar.image, height=384, width=384)
    )
    write_sidecar(artifact.path, called)
    arguments = calling("--data", f"nyu:{tmp_path}", "--reference", "paper", models=[str(artifact.path)], res="416")
    out = fine(capsys, *arguments)
    (reference,) = outcome(tmp_path)["references"]
    assert (reference["published"], reference["model"], reference["source"]) == (8.69, "hybrid", "Table 1")
    assert reference["images"] == "3 of its 654 images"
    assert 0 <= reference["ours"]["value"] <= 100
    assert "8.69 in Table 1 of the paper" in out


def test_a_number_that_the_paper_does_not_print_is_not_invented(calling, ramps, paths, tmp_path, capsys):
    fine(capsys, *calling("--data", f"eth3d:{tmp_path}", "--reference", "paper", models=paths[:1]))
    assert outcome(tmp_path)["references"] == []


def test_a_data_set_of_metres_wants_a_model_of_metres(calling, ramps, paths, tmp_path, capsys):
    said = complaint(capsys, 2, *calling("--data", f"nyu-metric:{tmp_path}", models=paths[:1]))
    assert "measures depth in metres; tiny-vit returns inverse depth" in said


def test_a_data_set_of_order_has_no_depth_to_measure(calling, ramps, paths, tmp_path, capsys):
    assert "has no depth to measure" in complaint(capsys, 2, *calling("--data", f"diw:{tmp_path}", models=paths[:1]))


def test_an_error_without_bound_is_an_error_of_the_model(calling, ramps, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(study_images.Images, "errors", lambda *_: {"abs_rel": float("inf")})
    with pytest.raises(ParityError, match="tiny-vit has an infinite error at 96 for a"):
        study.run_study(setup_of(paths[:1], data=f"eth3d:{tmp_path}"), tmp_path / "out")
