"""The study from end to end on miniature models and small scenes: right, resumable, and loud about what is wrong."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
from support.faults.calling import complaint, fine
from support.faults.handmade import listing
from support.reporting import recording
from support.study_runs import SIZES, arguments, outcome, setup_of
from support.tiny import copied, exported, quick_accuracy, tampered, tiny_model, tiny_path, tiny_recipe
from support.traces import traces_kept

from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import LABEL_TASKS
from dpt_deploy.datasets.evaluate import resize_bilinear
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.jobs.study import models as study_models
from dpt_deploy.jobs.study import scene_images, scoring, study
from dpt_deploy.jobs.study.outcome import NUMBERS
from dpt_deploy.measure import metrics
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.scenes.layouts import balanced
from dpt_deploy.scenes.render import render_scene
from dpt_deploy.scenes.seeds import STUDIES

SIDE = 96
SEEDS = balanced(STUDIES.start, 4)
SCENES = [f"scene-{seed}" for seed in SEEDS]


@pytest.fixture(autouse=True)
def _small_scenes(monkeypatch):
    monkeypatch.setattr(scene_images, "SCENE_SIDE", SIDE)


@pytest.fixture(scope="module")
def paths():
    return [str(exported(name).path) for name in ("tiny-vit", "tiny-conv")]


@pytest.fixture
def calling(paths, tmp_path):
    return partial(arguments, tmp_path, paths)


# --- right ------------------------------------------------------------------------------------------------------------


def test_a_study_leaves_its_numbers_behind(calling, tmp_path, capsys):
    out = fine(capsys, *calling())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scores.jsonl", "study.csv", "study.json"]
    found = outcome(tmp_path)
    assert [each["name"] for each in found["subjects"]] == ["tiny-vit", "tiny-conv"]
    assert (found["sizes"], found["trained"], found["data"]["images"]) == (["96", "128"], "96", 3)
    assert len(found["comparisons"]) == 1
    assert "tiny-vit" in out
    assert "AbsRel" in out
    rows = list(csv.DictReader((tmp_path / "out" / "study.csv").read_text().splitlines()))
    assert [(row["subject"], row["size"]) for row in rows] == [
        (name, size) for name in ("tiny-vit", "tiny-conv") for size in ("96", "128")
    ]
    assert float(rows[0]["abs_rel"]) == pytest.approx(np.mean(found["abs_rel"]["tiny-vit"]["96"]))


def test_a_score_is_what_the_protocol_says_by_hand(calling, paths, tmp_path, capsys):
    fine(capsys, *calling())
    scene = render_scene(SEEDS[1], height=SIDE, width=SIDE)
    with load(paths[0], size=Size(128, 128)) as predictor:
        output = predictor.infer(predictor.prepare(scene.image))[0]
    measured = np.zeros((SIDE, SIDE), bool)
    measured[::2, ::2] = scene.depth[::2, ::2] < 80
    prediction, truth = resize_bilinear(output, Size(SIDE, SIDE))[measured], 1 / scene.depth[measured]
    scale, shift = np.polyfit(prediction.astype(float), truth.astype(float), 1)
    depth = 1 / np.maximum(scale * prediction + shift, 1 / 80)
    expected = np.mean(np.abs(depth - scene.depth[measured]) / scene.depth[measured])
    assert outcome(tmp_path)["abs_rel"]["tiny-vit"]["128"][1] == pytest.approx(expected, rel=1e-4)


def test_the_plane_stands_next_to_the_models(calling, tmp_path, capsys):
    fine(capsys, *calling())
    scene = render_scene(SEEDS[0], height=SIDE, width=SIDE)
    measured = np.zeros((SIDE, SIDE), bool)
    measured[::2, ::2] = scene.depth[::2, ::2] < 80
    expected = metrics.depth_metrics(metrics.plane_depth(scene.depth, measured, 80.0), scene.depth, measured).abs_rel
    found = outcome(tmp_path)
    assert found["abs_rel_of_plane"][0] == pytest.approx(expected, rel=1e-4)
    assert found["rows"][0]["share_of_plane"] == pytest.approx(
        found["rows"][0]["abs_rel"] / found["plane_abs_rel"]["value"]
    )


def test_pytorch_and_onnx_runtime_see_the_same(calling, paths, tmp_path, capsys):
    fine(capsys, *calling("--runtime", "ort,torch", models=paths[:1], scenes=2))
    found = outcome(tmp_path)["abs_rel"]
    assert list(found) == ["tiny-vit ort", "tiny-vit torch"]
    assert found["tiny-vit ort"]["128"] == pytest.approx(found["tiny-vit torch"]["128"], rel=1e-4)


def test_json_is_the_file_that_is_written(calling, tmp_path, capsys):
    assert json.loads(fine(capsys, *calling("--json"))) == outcome(tmp_path)


def test_a_study_is_held_to_a_recorded_one(calling, tmp_path, capsys):
    fine(capsys, *calling())
    record = tmp_path / "recorded.json"
    shutil.copy(tmp_path / "out" / "study.json", record)
    assert f"2 of 2 intervals overlap with those of {record}" in fine(capsys, *calling("--check", record))
    assert json.loads(fine(capsys, *calling("--check", record, "--json")))["agreement"]["apart"] == []
    moved = outcome(tmp_path)
    for row in moved["rows"]:
        for key in ("loss_percent", "loss_percent_low", "loss_percent_high"):
            row[key] += 10_000
    record.write_text(json.dumps(moved))
    assert call([str(part) for part in calling("--check", record)]) == 5
    out, err = capsys.readouterr()
    assert "0 of 2 intervals overlap" in out
    assert "2 of 2 losses differ" in err
    own = tmp_path / "out" / "study.json"
    before = own.read_bytes()
    assert "would overwrite" in complaint(capsys, 2, *calling("--check", own))
    assert own.read_bytes() == before
    record.write_text("{}")
    assert "is not a recorded study" in complaint(capsys, 4, *calling("--check", record))


def test_everything_is_drawn(paths, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[study]'")
    arguments = ("--backbone", ",".join(paths), "--res", SIZES, "--scenes", 4, "--control", "none", "-o", tmp_path)
    assert "report.html" in fine(capsys, "study", *arguments)
    pictures = {"figure.svg", "figure.png", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} >= {*NUMBERS, *pictures}
    page = (tmp_path / "report.html").read_text()
    assert "Random weights: a trial run, not a result." in page
    assert page.count("data:image/jpeg") >= 10
    shutil.rmtree(tmp_path / "models", ignore_errors=True)
    (tmp_path / "report.html").unlink()
    fine(capsys, "study", *arguments)
    assert (tmp_path / "report.html").read_text() == page


# --- broken off -------------------------------------------------------------------------------------------------------


class Interruption(Exception):
    pass


def interrupted(setup, out, after):
    """Run until ``after`` images are done."""

    def stop(task):
        if task.name == "images" and task.done == after:
            raise Interruption

    with recording(stop), pytest.raises(Interruption):
        study.run_study(setup, out)


def counted(monkeypatch):
    """The outputs computed from here on, as (model, size, image)."""
    seen = []
    original = scoring.OpenModels.output

    def output(self, candidate, size, sample):
        seen.append((candidate, str(size), sample.name))
        return original(self, candidate, size, sample)

    monkeypatch.setattr(scoring.OpenModels, "output", output)
    return seen


def test_a_study_that_was_broken_off_goes_on_and_ends_the_same(paths, tmp_path, monkeypatch):
    setup = setup_of(paths)
    whole, _ = study.run_study(setup, tmp_path / "whole")
    interrupted(setup, tmp_path / "broken", 2)
    with (tmp_path / "broken" / study.JOURNAL).open("ab") as stream:
        stream.write(b'{"subject": "cut sh')
    seen = counted(monkeypatch)
    resumed, _ = study.run_study(setup, tmp_path / "broken")
    assert resumed.to_dict() == whole.to_dict()
    assert {image for _, _, image in seen} == {SCENES[2]}
    assert len(seen) == 2 * 2


def test_a_finished_study_computes_nothing_again_and_another_size_only_itself(paths, tmp_path, monkeypatch):
    study.run_study(setup_of(paths), tmp_path)
    seen = counted(monkeypatch)
    study.run_study(setup_of(paths), tmp_path)
    assert seen == []
    study.run_study(setup_of(paths, sizes=(Size(128, 128), Size(160, 160))), tmp_path)
    assert {size for _, size, _ in seen} == {"160"}


def test_another_model_under_the_same_name_is_scored_anew(paths, tmp_path, monkeypatch):
    study.run_study(setup_of(paths), tmp_path / "out")

    def double(graph):
        graph.doc_string = "not the same file"

    changed = tampered(exported("tiny-vit"), tmp_path / "changed", double)
    seen = counted(monkeypatch)
    study.run_study(setup_of([str(changed.path), paths[1]]), tmp_path / "out")
    assert {candidate for candidate, _, _ in seen} == {"tiny-vit"}
    assert len(seen) == 2 * 3


def test_the_output_that_is_scored_is_named_where_there_are_several(tmp_path):
    path = str(exported("tiny-vit-both").path)
    with recording() as reporter:
        study_models.candidates([path], None, ["ort"], ["fp32"], tmp_path)
        study_models.candidates([path], None, ["ort"], ["fp32"], tmp_path, scored=LABEL_TASKS)
    assert [line for line in reporter.lines if "scored" in line] == [
        "tiny-vit-both: predicted_depth is scored; logits is not",
        "tiny-vit-both: logits is scored; predicted_depth is not",
    ]


def test_fewer_tokens_are_candidates_next_to_the_exact_network(calling, tmp_path, capsys):
    fewer = ("--weights", "random", "--tokens", "1:4x4,1:30%")
    with quick_accuracy(), traces_kept():
        fine(capsys, *calling(*fewer, models=[tiny_path("tiny-vit")], scenes=2))
    found = {each["name"] for each in outcome(tmp_path)["subjects"]}
    assert found == {"tiny-vit", "tiny-vit tokens-hard-1-4x4", "tiny-vit tokens-merge-1-30"}


def test_other_scenes_are_other_scores(paths, tmp_path, monkeypatch):
    study.run_study(setup_of(paths[:1]), tmp_path)
    seen = counted(monkeypatch)
    study.run_study(setup_of(paths[:1], seed=1), tmp_path)
    assert len(seen) == 3 * 2  # the first scene is the mark of the generator, so all of them


@pytest.mark.parametrize("seed", [1_000_000, 3_000_000, 999_999, 10**30], ids=str)
def test_scenes_of_other_purposes_are_refused(seed, calling, tmp_path, capsys):
    """2,000,000 on are validation's scenes, 4,000,000 on those of calibration."""
    said = complaint(capsys, 2, *calling("--seed", seed))
    assert f"--seed {seed}" in said
    assert "expected a seed below 1,000,000" in said
    assert not (tmp_path / "out").exists()


def test_the_last_scenes_of_studies_can_be_used():
    names = scene_images.scenes(2, 999_900).names
    assert all(int(name.removeprefix("scene-")) in STUDIES for name in names)


# --- wrong data -------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoiled(monkeypatch):
    """Make the images of these names unreadable."""

    def spoil(*names):
        real = scene_images.scenes

        def scenes(count, seed):
            images = real(count, seed)
            read = images.read_sample

            def read_sample(name):
                if name in names:
                    raise BadFileError(f"{name}: cut short", hint="fetch it again")
                return read(name)

            return replace(images, read_sample=read_sample)

        monkeypatch.setattr(scene_images, "scenes", scenes)

    return spoil


def test_an_image_that_cannot_be_read_is_left_out_for_everybody_and_named(calling, spoiled, tmp_path, capsys):
    spoiled(SCENES[1])
    assert call([str(part) for part in calling(scenes=4)]) == 0
    err = capsys.readouterr().err
    assert f"left out: {SCENES[1]}: cut short" in err
    assert f"1 image(s) could not be used and were left out: {SCENES[1]}." in err
    found = outcome(tmp_path)
    assert found["failures"] == [{"image": SCENES[1], "reason": f"{SCENES[1]}: cut short"}]
    assert found["images"] == [SCENES[0], SCENES[2], SCENES[3]]
    assert all(len(row) == 3 for sizes in found["abs_rel"].values() for row in sizes.values())


def test_a_study_on_one_image_that_is_left_is_refused(calling, spoiled, capsys):
    spoiled(*SCENES[:2])
    assert "1 image(s) to measure on" in complaint(capsys, 4, *calling())


def test_an_image_without_truth_is_left_out(calling, monkeypatch, tmp_path, capsys):
    real = render_scene

    def sky_at_one(seed, **options):
        scene = real(seed, **options)
        if seed == SEEDS[1]:
            scene.depth[:] = np.inf
        return scene

    monkeypatch.setattr(scene_images, "render_scene", sky_at_one)
    fine(capsys, *calling(scenes=3))
    (failure,) = outcome(tmp_path)["failures"]
    assert "has no pixel with ground truth to measure" in failure["reason"]


def test_a_model_that_returns_nan_is_named_with_size_and_image(calling, paths, tmp_path, capsys):
    def poison(graph):
        weight = next(each for each in graph.graph.initializer if "head" in each.name and len(each.dims) == 4)
        values = onnx.numpy_helper.to_array(weight).copy()
        values[:] = np.nan
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    bad = tampered(exported("tiny-vit"), tmp_path / "bad", poison)
    said = complaint(capsys, 5, *calling(models=[paths[1], str(bad.path)]))
    assert f"tiny-vit returned NaN or infinity at 96 for {SCENES[0]}" in said
    assert not (tmp_path / "out" / "study.json").exists()


# --- wrong calls ------------------------------------------------------------------------------------------------------

VIT, CONV = tiny_path("tiny-vit"), tiny_path("tiny-conv")
CALLS = {
    "size": (("--backbone", VIT, "--res", "100"), "nearest legal sizes: 96 or 128"),
    "only the training size": (("--backbone", VIT, "--res", "96"), "--res has only the training size 96"),
    "no size": (("--backbone", VIT, "--res", ","), "--res is empty"),
    "runtime": (("--backbone", VIT, "--runtime", "tvm"), "unknown runtime 'tvm'"),
    "no runtime": (("--backbone", VIT, "--runtime", ","), "--runtime is empty"),
    "backbone": (("--backbone", "tinny"), "unknown backbone 'tinny'"),
    "no backbone": (("--backbone", ""), "--backbone is empty"),
    "precision": (("--backbone", VIT, "--weights", "random", "--precision", "fp7"), "precision 'fp7'"),
    "segmentation": (("--backbone", tiny_path("tiny-seg")), "the study measures depth"),
    "other training size": (("--backbone", f"{VIT},base"), "were trained at different sizes"),
    "one file for two": (("--backbone", f"{VIT},{CONV}", "--weights", "w.pt"), "is for one model; 2 are to be"),
    "metres": (("--backbone", tiny_path("tiny-metric")), "measures inverse depth"),
    "one scene": (("--backbone", VIT, "--scenes", "1"), "1 is not in the range x>=2"),
    "data": (("--backbone", VIT, "--data", "nyu"), "expected NAME:DIR"),
    "unknown data": (("--backbone", VIT, "--data", "mars:."), "unknown data set 'mars'"),
    "reference of scenes": (("--backbone", VIT, "--reference", "paper"), "needs --data"),
    "reference": (("--backbone", VIT, "--reference", "rumour"), "'rumour' is not 'paper'"),
}


@pytest.mark.parametrize(("argv", "said"), CALLS.values(), ids=CALLS)
def test_a_call_that_cannot_be_is_refused_before_any_work(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    res = () if "--res" in argv else ("--res", "128")
    assert said in complaint(capsys, 2, "study", *argv, *res)
    assert listing(tmp_path) == {}


def test_the_folder_of_a_data_set_that_is_not_there_exits_4(calling, capsys):
    assert "/nowhere" in complaint(capsys, 4, *calling("--data", "nyu:/nowhere"))


def test_a_model_that_is_not_there_exits_4(calling, capsys):
    assert "gone.onnx" in complaint(capsys, 4, *calling(models=["gone.onnx"]))


def test_two_models_of_one_name_are_refused(calling, paths, tmp_path, capsys):
    twin = copied(exported("tiny-vit"), tmp_path / "twin")
    assert "two models are called 'tiny-vit'" in complaint(capsys, 2, *calling(models=[paths[0], str(twin.path)]))


def test_models_that_differ_in_precision_alone_are_distinguished_by_it(paths, tmp_path):
    rounded = exported("tiny-vit", precision="fp16")
    found = study_models.candidates((paths[0], str(rounded.path)), None, ("ort",), ("fp32",), tmp_path)
    assert [each.candidate.name for each in found] == ["tiny-vit fp32", "tiny-vit fp16"]
    assert [each.candidate.runtime for each in found] == ["ort", "emu"]  # the one that is evidence for each
    with pytest.raises(UsageError, match="not fp16"):
        study_models.candidates((str(rounded.path),), None, ("torch",), ("fp32",), tmp_path)


def test_weights_that_lie_next_to_the_model_count_for_what_it_is(tmp_path):
    sidecar = exported("tiny-vit").sidecar
    data = replace(sidecar.payloads[0], name="tiny-vit-fp32.onnx.data", sha256="0" * 64)
    alone, neighbour, other = (
        study_models._digest(replace(sidecar, payloads=(*sidecar.payloads, *more)))
        for more in ((), (data,), (replace(data, sha256="1" * 64),))
    )
    assert alone == sidecar.payloads[0].sha256
    assert len({alone, neighbour, other}) == 3


def test_a_file_in_the_place_of_the_folder_is_refused(calling, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert "is a file; expected a folder" in complaint(capsys, 2, *calling())
    assert (tmp_path / "out").read_text() == "mine"


def test_without_matplotlib_the_numbers_can_be_had_and_drawing_says_what_to_install(calling, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("dpt_deploy.report.")]:
        monkeypatch.delitem(sys.modules, name)
    fine(capsys, *calling(scenes=2))
    drawing = [part for part in calling(scenes=2) if part != "--no-plot"]
    assert "pip install -e '.[study]'" in complaint(capsys, 3, *drawing)


# --- control ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An exported model whose weights lie in a file, as trained ones do."""
    folder = tmp_path_factory.mktemp("trained")
    save_native(tiny_model("tiny-vit"), folder / "tiny.safetensors")
    request = ExportRequest(tiny_recipe("tiny-vit"), weights=str(folder / "tiny.safetensors"))
    return str(export_model(request, folder).artifact.path)


def test_a_control_without_its_defect_goes_unnoticed_and_exits_5(calling, trained, tmp_path, monkeypatch, capsys):
    write = study_models._recipe_text
    monkeypatch.setattr(study_models, "_recipe_text", lambda sidecar, name, _defect: write(sidecar, name, "bilinear"))
    arguments = calling("--control", "nearest", models=[trained])  # the last of two options counts
    assert call([str(part) for part in arguments]) == 5
    out, err = capsys.readouterr()
    assert "error: the planted defect was not detected: the study is not sensitive enough" in err
    assert "within chance" in out
    found = outcome(tmp_path)
    assert found["measures_something"] is False
    assert found["control"]["overall"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["control"]["at_training"] == 0.0


@pytest.mark.parametrize("defect", ["tiled", "nearest"])
def test_the_control_is_a_candidate_like_any_other_and_the_same_at_the_training_size(defect, trained, tmp_path):
    found, models = study.run_study(setup_of([trained], control=defect), tmp_path)
    assert [each.candidate.name for each in models] == ["tiny-vit", f"tiny-vit-{defect}"]
    assert found.analysis.control.at_training == 0.0
    assert found.analysis.control.by_size[1].value != 0.0
    assert (tmp_path / "models" / f"tiny-vit-{defect}.toml").is_file()


def test_a_study_of_models_without_positions_says_that_it_has_no_control(paths, tmp_path, capsys):
    arguments = ("--backbone", paths[1], "--res", SIZES, "--scenes", 2, "--no-plot", "-o", tmp_path)
    assert "No control was run: no model has positions to spoil" in fine(capsys, "study", *arguments)
