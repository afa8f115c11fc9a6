"""The command from end to end on miniature models: the bound, the transfer, and what is refused."""

import json
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.faults.calling import complaint
from support.reporting import recording
from support.tiny import exported, quick_accuracy, tiny_path
from support.traces import traces_kept

import dpt_deploy
from dpt_deploy.cli import call
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.protocols import Protocol
from dpt_deploy.jobs.attack import attack, pictures
from dpt_deploy.jobs.attack.methods import AttackSteps, attacked
from dpt_deploy.jobs.attack.objectives import WhiteBox, as_tensor
from dpt_deploy.jobs.attack.pictures import LabelledPictures
from dpt_deploy.jobs.attack.request import AttackRequest
from dpt_deploy.jobs.study.models import candidates
from dpt_deploy.jobs.study.robustness import findings
from dpt_deploy.jobs.study.robustness.statistics import CLEAN, Condition, ConditionScores
from dpt_deploy.jobs.study.scoring import OpenModels
from dpt_deploy.report.robustness.numbers import target_table
from dpt_deploy.report.robustness.sections import ROBUSTNESS_KINDS
from dpt_deploy.report.sections import Result
from dpt_deploy.scenes.render import render_scene
from dpt_deploy.scenes.things import CLASSES as CLASSES_OF_SCENES

SIDE = 96
CLASSES = 7  # of the miniature networks with labels
JOINT = ("--backbone", tiny_path("tiny-vit-both"))


@pytest.fixture(autouse=True)
def _small_scenes(monkeypatch):
    monkeypatch.setattr(pictures, "SIDE", SIDE)


@pytest.fixture(scope="module")
def path():
    return str(exported("tiny-vit").path)


@pytest.fixture(scope="module")
def joint():
    return str(exported("tiny-vit-both").path)


def setup_of(path, **changes):
    asked = {"model": path, "methods": ("fgsm", "pgd"), "levels": (8.0,), "steps": 4, "scenes": 2}
    return attack.prepare_attack(AttackRequest(**{**asked, **changes}))


def sidecar_of(path):
    return candidates((path,), None, ("ort",), ("fp32",), None)[0].artifact.sidecar


def loss_of(setup, path, sample, image):
    box = attack.white_box(setup, sidecar_of(path))
    with torch.inference_mode():
        return float(attack.loss_of(box, sample, setup.request.target, metric=False)(as_tensor(image)))


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, "flip"])
def test_the_loss_rises_more_than_by_noise_and_the_bound_holds(path, target):
    setup = setup_of(path, target=target)
    sample, _ = setup.images.read(setup.images.names[0])
    damage = attack.damage_of(setup, sidecar_of(path))
    found = {name: damage(sample, Condition(name, 8)).image for name in ("noise", "fgsm", "pgd")}
    losses = {name: loss_of(setup, path, sample, image) for name, image in found.items()}
    assert max(losses["noise"], loss_of(setup, path, sample, sample.image)) < losses["pgd"], losses
    assert all(np.abs(image.astype(int) - sample.image).max() <= 8 for image in found.values())
    assert damage(sample, CLEAN) is sample
    assert np.array_equal(damage(sample, Condition("pgd", 8)).image, found["pgd"])


@pytest.mark.parametrize(("network", "task"), [("path", None), ("joint", "depth"), ("joint", "segmentation")])
def test_onnx_and_pytorch_agree_on_attacked_images(network, task, request, monkeypatch):
    monkeypatch.setattr(pictures, "_labelled_scenes", labelled)
    path = request.getfixturevalue(network)
    setup = setup_of(path, task=task)
    sample, _ = setup.images.read(setup.images.names[1])
    sidecar = sidecar_of(path)
    image = attack.damage_of(setup, sidecar)(sample, Condition("pgd", 8)).image
    with torch.inference_mode():
        expected = attack.white_box(setup, sidecar)(as_tensor(image))[0].numpy()
    with ExitStack() as stack:
        models = candidates((path,), None, ("ort",), ("fp32",), None)
        opened = OpenModels(stack, models, setup.images, [setup.size])
        found = opened.output(models[0].candidate.name, setup.size, replace(sample, image=image))
    assert np.abs(found - expected).max() < 1e-3 * np.ptp(expected)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.needs("matplotlib")
def test_the_command_writes_numbers_page_and_images(path, tmp_path, capsys):
    argv = ["attack", "--backbone", path, "--method", "fgsm", "--eps", "0,8/255", "--precision", "fp32"]
    code = call([*map(str, [*argv, "--scenes", 2, "-o", tmp_path, "--save"])])
    assert code in (0, 5)  # a random network may be as sensitive to noise; the results are there all the same
    assert (code == 5) == ("not sensitive enough" in capsys.readouterr().err)
    found = json.loads((tmp_path / "attack.json").read_text())
    assert {entry.name for entry in tmp_path.iterdir()} == {
        *("scores.jsonl", "images"),
        *(f"attack.{end}" for end in ("json", "csv", "svg", "png", "html")),
    }
    assert [str(each["name"]) for each in found["conditions"]] == ["clean", "fgsm", "noise"]
    assert "fgsm 8, compared with noise 8," in found["control"]["condition"]
    saved = sorted(each.name for each in (tmp_path / "images").iterdir())
    assert len(saved) == 4
    assert "random" in found["about"]["white box"]
    name = found["images"][0]
    scene = render_scene(int(name.removeprefix("scene-")), height=SIDE, width=SIDE)
    stored = np.asarray(Image.open(tmp_path / "images" / f"{name}-fgsm-8.png"))
    assert np.abs(stored.astype(int) - scene.image).max() == 8
    assert "Attack" in ROBUSTNESS_KINDS["attack-study"].title
    text = ROBUSTNESS_KINDS["attack-study"].show(Result("attack-study-x.json", found), "results")
    assert "Random weights" not in findings.headline({**found, "subjects": [{**found["subjects"][0], "random": False}]})
    assert "compared with noise 8" in text


def test_an_attack_that_is_no_better_than_noise_is_noticed():
    conditions = (CLEAN, Condition("pgd", 8), Condition("noise", 8, control=True))
    difficulty = np.random.default_rng(0).uniform(0.1, 0.5, 20)
    verdicts = []
    for growth in (0.3, 0.1):
        errors = np.stack([difficulty, difficulty + growth, difficulty + 0.1])[None]
        scores = ConditionScores(("a",), conditions, tuple(map(str, range(20))), errors)
        verdicts.append((attack.blind_control(scores, 0).noticed, attack.blind_control(scores, 0, target=True).noticed))
    assert verdicts == [(True, False), (False, False)]


@pytest.mark.needs("matplotlib")
def test_files_with_fewer_tokens_are_scored_on_the_images_of_the_exact_network(tmp_path):
    argv = ["attack", "--backbone", tiny_path("tiny-vit"), "--weights", "random", "--method", "fgsm", "--eps", "8/255"]
    argv += ["--precision", "fp32", "--tokens", "1:4x4,1:30%", "--scenes", "2", "--no-plot", "-o", str(tmp_path)]
    alone = setup_of(tiny_path("tiny-vit"), weights="random", methods=("fgsm",), steps=10)
    with quick_accuracy(), traces_kept():
        assert call(argv) in (0, 5)  # a random network may be as sensitive to noise
        exact = attack.run_attack(alone, tmp_path / "alone")[0].to_dict()
    found = json.loads((tmp_path / "attack.json").read_text())
    pairs = {each["subject"]: each["original"] for each in found["extras"]}
    assert pairs == dict.fromkeys(("tiny-vit tokens-hard-1-4x4", "tiny-vit tokens-merge-1-30"), "tiny-vit")
    assert len({tuple(each["fgsm 8"]) for each in found["errors"].values()}) == 3
    assert [each["checksum"] for each in found["conditions"]] == [each["checksum"] for each in exact["conditions"]]


# --- segmentation -----------------------------------------------------------------------------------------------------


def labelled(request):
    """Rendered scenes with the labels of seven classes."""

    def read(name):
        scene = render_scene(int(name.removeprefix("scene-")), height=SIDE, width=SIDE)
        return Sample(name, scene.image, np.ones((SIDE, SIDE), bool), labels=scene.labels % CLASSES + np.uint8(1))

    plain = pictures._scenes(request)
    protocol = Protocol("segmentation", "pixel_accuracy", 2, setup_size(), "minimal", classes=CLASSES)
    parts = (plain.data, plain.names, protocol, read, plain.kind, plain.sky, plain.whole_frame)
    return LabelledPictures(*parts, target=request.target)


def setup_size():
    return pictures.Size(SIDE, SIDE)


@pytest.mark.parametrize("target", [None, "3"])
def test_a_segmentation_model_is_attacked_and_scored(target, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_labelled_scenes", labelled)
    path = str(exported("tiny-seg").path)
    setup = setup_of(path, methods=("pgd",), target=target)
    study, models = attack.run_attack(setup, tmp_path)
    document = study.to_dict()
    rows = {row["name"]: row for row in document["rows"]}
    assert document["about"]["error"] == "share of pixels with another class"
    assert 0 <= rows["clean"]["error"] <= 100
    assert (target_table(document) is not None) == bool(target)
    if target:
        assert target_table(document).rows[0][1] == f"{100 * rows['clean']['target']:.1f}"
        assert rows["pgd"]["target"] <= rows["clean"]["target"]
    else:
        assert rows["pgd"]["error"] > rows["clean"]["error"]
    sample, _ = setup.images.read(setup.images.names[0])
    with ExitStack() as stack:
        output = OpenModels(stack, models, setup.images, [setup.size]).output(
            models[0].candidate.name, setup.size, sample
        )
    wrong = np.mean(output.argmax(axis=0) + 1 != sample.labels)
    assert document["errors"][models[0].candidate.name]["clean"][0] == pytest.approx(wrong, abs=1e-5)


def test_rendered_scenes_have_their_exact_labels():
    images = pictures._labelled_scenes(AttackRequest(scenes=2, target="4"))
    sample, _ = images.read(images.names[0])
    scene = render_scene(int(images.names[0].removeprefix("scene-")), height=SIDE, width=SIDE)
    assert np.array_equal(sample.labels, scene.labels + 1)
    perfect = np.eye(len(CLASSES_OF_SCENES), dtype=np.float32)[scene.labels].transpose(2, 0, 1)
    other = float(np.mean(scene.labels != 3))
    assert images.errors(perfect, sample) == {"error": 0, "target": pytest.approx(other)}
    assert images.errors(scene.labels.astype(np.int32), sample)["error"] == 0  # an artefact that ends in ArgMax
    assert images.errors(np.roll(perfect, 1, axis=0), sample)["error"] == 1


# --- a network for both tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["depth", "segmentation"])
def test_the_controls_hold_for_each_task_of_a_joint_network(task, joint, monkeypatch):
    monkeypatch.setattr(pictures, "_labelled_scenes", labelled)
    setup, one = (setup_of(joint, task=task, steps=steps) for steps in (4, 1))
    sample, _ = setup.images.read(setup.images.names[0])
    assert (sample.labels is None) == (task == "depth")
    damage, once = (attack.damage_of(each, sidecar_of(joint)) for each in (setup, one))
    found = {name: damage(sample, Condition(name, 8)).image for name in ("noise", "fgsm", "pgd")}
    losses = {name: loss_of(setup, joint, sample, image) for name, image in found.items()}
    assert max(losses["noise"], loss_of(setup, joint, sample, sample.image)) < losses["pgd"], losses
    changes = {name: np.abs(image.astype(int) - sample.image) for name, image in found.items()}
    assert {name: change.max() for name, change in changes.items()} == dict.fromkeys(found, 8)
    assert np.array_equal(found["fgsm"], once(sample, Condition("pgd", 8)).image)
    assert not np.array_equal(found["fgsm"], found["pgd"])
    for name in found:
        assert np.array_equal(damage(sample, Condition(name, 0)).image, sample.image)


def test_the_labels_of_trained_weights_are_wrong_more_often_than_under_noise():
    recipe, images = load_recipe("tiny-both"), pictures._labelled_scenes(AttackRequest(scenes=2))
    size = setup_size()
    network = dpt_deploy.create_model("tiny-both", weights="pretrained")
    box = WhiteBox(network, images.rule(recipe.image, size), recipe.model.stride, output=1)
    wrong = dict.fromkeys(("clean", "noise", "fgsm"), 0.0)
    for name in images.names:
        sample, _ = images.read(name)
        loss = attack.loss_of(box, sample, None, metric=False)
        for method in wrong:
            seen = sample.image if method == "clean" else attacked(sample.image, loss, method, 8, AttackSteps())
            with torch.inference_mode():
                wrong[method] += images.errors(box(as_tensor(seen))[0].numpy(), sample)["error"] / 2
    assert wrong["clean"] < wrong["noise"] < wrong["fgsm"]
    assert wrong["clean"] < 0.5


def test_each_task_has_an_attack_and_scores_of_its_own(joint, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_labelled_scenes", labelled)
    found = {}
    for task in (None, "depth", "segmentation"):  # in one folder: their scores must not be confused
        with recording() as reporter:
            study, models = attack.run_attack(setup_of(joint, task=task, methods=("pgd",)), tmp_path)
        found[task] = study.to_dict(), reporter.lines
    (default, _), (depth, depth_said), (labels, labels_said) = found.values()
    assert default["errors"] == depth["errors"] != labels["errors"]
    checksums = [{each["name"]: each["checksum"] for each in document["conditions"]} for document in (depth, labels)]
    assert {name for name in checksums[0] if checksums[0][name] == checksums[1][name]} == {"clean", "noise"}
    assert depth["about"]["error"].startswith("DEE")
    assert labels["about"]["error"] == "share of pixels with another class"
    assert "tiny-vit-both: predicted_depth is scored; logits is not" in depth_said
    assert "tiny-vit-both: logits is scored; predicted_depth is not" in labels_said
    assert "depth is attacked and scored; segmentation is not" in findings.sentences(default)[0]
    assert "segmentation is attacked and scored; depth is not" in findings.sentences(labels)[0]
    setup = setup_of(joint, task="segmentation")
    sample, _ = setup.images.read(setup.images.names[0])
    with ExitStack() as stack:
        opened = OpenModels(stack, models, setup.images, [setup.size])
        logits = opened.output(models[0].candidate.name, setup.size, sample)
    wrong = np.mean(logits.argmax(axis=0) + 1 != sample.labels)
    assert labels["errors"][models[0].candidate.name]["clean"][0] == pytest.approx(wrong, abs=1e-5)


@pytest.mark.needs("matplotlib")
def test_the_command_attacks_the_labels_of_a_joint_network_and_draws_them(joint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "_labelled_scenes", labelled)
    argv = ["attack", "--backbone", joint, "--task", "segmentation", "--method", "fgsm", "--eps", "8/255"]
    code = call([*argv, "--precision", "fp32", "--scenes", "2", "-o", str(tmp_path)])
    assert code in (0, 5)  # a random network may be as sensitive to noise
    assert "segmentation is attacked and scored; depth is not" in capsys.readouterr().out
    document = json.loads((tmp_path / "attack.json").read_text())
    assert document["about"]["task"] == "segmentation"
    page = (tmp_path / "attack.html").read_text()
    assert page.count('alt="segmentation by tiny-vit-both, ') == len(document["conditions"]) == 3
    assert "share of pixels with another class" in ROBUSTNESS_KINDS["attack-study"].show(
        Result("attack-study-x.json", document), "results"
    )


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--eps", "65/255"), "expected 0, or 1 to 64 levels"),
        (("--eps", "0.5/255"), "expected 0, or 1 to 64 levels"),
        (("--eps", "0"), "every strength is 0"),
        (("--method", "deepfool"), "'deepfool' is unknown"),
        (("--target", "3"), "--target is '3'; expected flip"),
        (("--backbone", tiny_path("tiny-seg"), "--target", "flip"), "expected the number of a class, 1 to 7"),
        (("--backbone", tiny_path("tiny-seg")), "labels of 10 classes; tiny-seg returns 7 classes"),
        (("--backbone", tiny_path("tiny-metric")), "measures inverse depth; tiny-metric returns metres"),
        (("--task", "segmentation"), "--task is segmentation; tiny-vit is a network for depth"),
        (("--task", "both"), "'both' is not one of 'depth', 'segmentation'"),
        (("--backbone", tiny_path("tiny-seg"), "--task", "depth"), "tiny-seg is a network for segmentation"),
        ((*JOINT, "--target", "3"), "expected flip for the depth of tiny-vit-both"),
        ((*JOINT, "--task", "segmentation"), "labels of 10 classes; tiny-vit-both returns 7 classes"),
        ((*JOINT, "--task", "segmentation", "--target", "flip"), "expected the number of a class, 1 to 7"),
        (("--precision", "int4"), "int4"),
        (("--res", "100"), "not a multiple of 32"),
        (("--tokens", "9:4x4"), "behind block 9"),
        (("--tokens", "1:30%", "--reconstruction", "knn"), "--reconstruction is for clusters"),
    ],
)
@pytest.mark.needs("matplotlib")
def test_mistakes(options, message, tmp_path, capsys):
    argv = ["attack", "--backbone", tiny_path("tiny-vit"), "-o", tmp_path / "out", *options]
    assert message in complaint(capsys, 2, *argv)
    assert not (tmp_path / "out").exists()
