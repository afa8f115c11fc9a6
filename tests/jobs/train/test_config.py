"""Training files: every key is checked, and the shipped ones train three networks in the same way."""

from dataclasses import asdict, replace

import pytest
from support.paths import ROOT

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.train.config import Augmentation, Loss, Schedule, Validation, read_training

pytestmark = pytest.mark.fast

TRAININGS = ROOT / "benchmarks" / "trainings"
SHIPPED = ("tiny", "tiny-vit", "tiny-conv")
TABLES = {
    "": {"backbone": '"tiny"', "seed": "1"},
    "scenes": {"count": "20", "side": "96"},
    "schedule": {"steps": "100", "batch": "4", "encoder_rate": "1e-4", "decoder_rate": "1e-3"},
}


def training_file(tmp_path, **changes):
    """A training file with changed keys: ``schedule_steps="0"``; None leaves a key or table out."""
    tables = {name: dict(keys) for name, keys in TABLES.items()}
    for name, value in changes.items():
        table, _, key = name.rpartition("__")
        tables.setdefault(table, {})[key] = value
    path = tmp_path / "training.toml"
    parts = []
    for name, keys in tables.items():
        parts += [f"[{name}]"] if name else []
        parts += [f"{key} = {value}" for key, value in keys.items() if value is not None]
    path.write_text("\n".join(parts))
    return path


def test_a_training_file_is_read_with_its_defaults(tmp_path):
    config = read_training(training_file(tmp_path))
    assert (config.backbone, config.seed, config.task) == ("tiny", 1, "depth")
    assert (config.scenes.count, config.scenes.side, config.scenes.first) == (20, 96, 0)
    assert config.schedule == Schedule(steps=100, batch=4, encoder_rate=1e-4, decoder_rate=1e-3)
    assert (config.loss, config.augmentation, config.validation) == (Loss(), Augmentation(), Validation())


def test_every_key_is_taken(tmp_path):
    keys = {
        "task": '"segmentation"',
        "scenes__first": "5",
        "schedule__optimizer": '"sgd"',
        "schedule__decay": '"polynomial"',
        "schedule__warm_up": "10",
        "schedule__weight_decay": "0.5",
        "schedule__clip": "2",
        "schedule__precision": '"bfloat16"',
        "schedule__coarse_steps": "40",
        "schedule__coarse_side": "64",
        "loss__trim": "0",
        "loss__alpha": "0.25",
        "augmentation__smallest_crop": "0.5",
        "augmentation__colour": "0",
        "validation__scenes": "3",
        "validation__first": "2000500",
    }
    found = asdict(read_training(training_file(tmp_path, **keys)))
    for name, text in keys.items():
        table, _, key = name.rpartition("__")
        value = found[table][key] if table else found[key]
        assert value == (text.strip('"') if text.startswith('"') else float(text)), name


WRONG = {
    "unknown key": ({"stepps": "3"}, "stepps"),
    "unknown key of a table": ({"schedule__step": "3"}, "schedule.'step'"),
    "unknown table": ({"sheduel__steps": "3"}, "sheduel"),
    "no backbone": ({"backbone": None}, "backbone is missing"),
    "no steps": ({"schedule__steps": None}, "schedule.steps is missing"),
    "backbone is a number": ({"backbone": "3"}, "backbone is 3; expected str"),
    "seed is text": ({"seed": '"1"'}, "seed is '1'; expected int"),
    "seed is true": ({"seed": "true"}, "seed is True; expected int"),
    "steps is a fraction": ({"schedule__steps": "1.5"}, "schedule.steps is 1.5; expected int"),
    "rate is text": ({"schedule__encoder_rate": '"fast"'}, "schedule.encoder_rate is 'fast'; expected float"),
    "no such optimizer": ({"schedule__optimizer": '"lion"'}, "schedule.optimizer is 'lion'; expected adam or sgd"),
    "no such decay": ({"schedule__decay": '"step"'}, "schedule.decay"),
    "no such precision": ({"schedule__precision": '"int8"'}, "schedule.precision"),
    "no such task": ({"task": '"normals"'}, "task is 'normals'; expected depth or segmentation"),
    "a table is a number": ({"augmentation": "3"}, "augmentation is 3"),
    "negative seed": ({"seed": "-1"}, "seed is -1; expected at least 0"),
    "a seed too large": ({"seed": "9223372036854775808"}, "expected a smaller number"),
    "no scenes": ({"scenes__count": "0"}, "scenes.count is 0; expected at least 1"),
    "no pixels": ({"scenes__side": "0"}, "scenes.side"),
    "no batch": ({"schedule__batch": "-4"}, "schedule.batch"),
    "no step": ({"schedule__steps": "0"}, "schedule.steps"),
    "no validation": ({"validation__scenes": "0"}, "validation.scenes"),
    "negative rate": ({"schedule__decoder_rate": "-1e-3"}, "schedule.decoder_rate"),
    "infinite rate": ({"schedule__decoder_rate": "inf"}, "schedule.decoder_rate"),
    "rate is no number": ({"schedule__encoder_rate": "nan"}, "schedule.encoder_rate"),
    "negative weight decay": ({"schedule__weight_decay": "-0.1"}, "schedule.weight_decay"),
    "clipped to nothing": ({"schedule__clip": "0"}, "schedule.clip is 0.0; expected above 0"),
    "coarse without end": (
        {"schedule__coarse_steps": "101"},
        "schedule.coarse_steps is 101; expected 0 to",
    ),
    "coarse without a size": ({"schedule__coarse_steps": "9"}, "schedule.coarse_side is 0; expected at least 1"),
    "all is trimmed": ({"loss__trim": "1"}, "loss.trim is 1.0; expected 0 to less than 1"),
    "negative alpha": ({"loss__alpha": "-1"}, "loss.alpha is -1.0; expected at least 0"),
    "warm-up without end": ({"schedule__warm_up": "101"}, "schedule.warm_up is 101; expected 0 to schedule.steps"),
    "crop of nothing": ({"augmentation__smallest_crop": "0.0"}, "augmentation.smallest_crop"),
    "crop beyond the image": ({"augmentation__smallest_crop": "1.1"}, "augmentation.smallest_crop"),
    "negative colour": ({"augmentation__colour": "-1"}, "augmentation.colour"),
    "scenes from before the first": ({"scenes__first": "-1"}, "scenes.first"),
    "scenes of the studies": ({"scenes__first": "999990"}, "scenes.first is 999990; expected 0 to 999980"),
    "validation on scenes of the studies": ({"validation__first": "1000000"}, "validation.first"),
    "validation beyond its scenes": ({"validation__first": "2999990"}, "validation.first"),
    "validation on training scenes": (
        {"validation__first": "10"},
        "validation.first is 10; expected 2000000 to 2999936",
    ),
}


@pytest.mark.parametrize(("changes", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_key_is_named(changes, said, tmp_path):
    with pytest.raises(BadFileError) as caught:
        read_training(training_file(tmp_path, **changes))
    assert said in str(caught.value)
    assert "training.toml" in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("content", [b"x = [", b"\xff\xfe", None], ids=["not TOML", "not text", "missing"])
def test_a_file_that_is_no_training_file_is_refused(content, tmp_path):
    path = tmp_path / "training.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"training\.toml") as caught:
        read_training(path)
    assert "benchmarks/trainings" in caught.value.hint
    with pytest.raises(BadFileError, match="cannot be read"):
        read_training(tmp_path)


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_identity_of_a_depth_training_is_what_it_was_before_there_was_another_task(tmp_path):
    assert read_training(training_file(tmp_path)).identity == {
        "backbone": "tiny",
        "seed": 1,
        "scenes": {"count": 20, "side": 96, "first": 0},
        "schedule": {
            "steps": 100,
            "batch": 4,
            "encoder_rate": 1e-4,
            "decoder_rate": 1e-3,
            "optimizer": "adam",
            "decay": "cosine",
            "warm_up": 0,
            "weight_decay": 0.0,
            "clip": 1.0,
            "precision": "float32",
        },
        "augmentation": {"smallest_crop": 0.875, "colour": 0.25},
    }


def test_the_validation_is_not_part_of_the_identity(tmp_path):
    config = read_training(training_file(tmp_path))
    assert replace(config, validation=Validation(scenes=3)).identity == config.identity
    assert replace(config, task="segmentation").identity == {**config.identity, "task": "segmentation"}
    assert replace(config, seed=2).identity != config.identity
    assert replace(config, loss=Loss(trim=0.0)).identity == {**config.identity, "loss": {"trim": 0.0, "alpha": 0.5}}
    coarse = replace(config.schedule, coarse_steps=5, coarse_side=64)
    assert replace(config, schedule=coarse).identity["schedule"] == asdict(coarse)


# --- schedules --------------------------------------------------------------------------------------------------------


def schedule(**changes):
    return Schedule(**{"steps": 100, "batch": 1, "encoder_rate": 1.0, "decoder_rate": 1.0, **changes})


def test_cosine_falls_from_one_to_nothing():
    factors = [schedule().factor(step) for step in (0, 25, 50, 75, 100)]
    assert factors == pytest.approx([1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2, 0])


@pytest.mark.parametrize("step", [0, 1, 37, 99])
def test_polynomial_decay_is_that_of_the_paper(step):
    assert schedule(decay="polynomial").factor(step) == pytest.approx((1 - step / 100) ** 0.9)


@pytest.mark.parametrize("decay", ["cosine", "polynomial"])
def test_warm_up_rises_in_equal_steps_to_the_full_rate(decay):
    warmed = schedule(warm_up=20, decay=decay)
    assert [warmed.factor(step) for step in range(20)] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert warmed.factor(20) == 1
    assert [warmed.factor(20 + 4 * n) for n in range(20)] == pytest.approx(
        [schedule(decay=decay).factor(5 * n) for n in range(20)]
    )


def test_a_schedule_that_is_all_warm_up_is_no_division_by_zero():
    assert schedule(warm_up=100).factor(100) == 1


# --- what ships -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(TRAININGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_training_file_can_be_run(path):
    config = read_training(path)
    recipe = load_recipe(config.backbone, task=config.task)
    assert recipe.image.height == recipe.image.width <= config.scenes.side
    assert path.read_text().startswith(f"# dpt-deploy train benchmarks/trainings/{path.name} ")


def test_the_first_training_of_the_shipped_models_differs_in_nothing_but_backbone():
    configs = {name: read_training(TRAININGS / f"{name}.toml") for name in SHIPPED}
    recipes = [load_recipe(config.backbone).model for config in configs.values()]
    assert [recipe.name.removesuffix("-16") for recipe in recipes] == list(SHIPPED)
    assert len({str(replace(config, backbone="")) for config in configs.values()}) == 1
    assert str(replace(read_training(TRAININGS / "tiny-seg.toml"), backbone="")) != str(
        replace(configs["tiny"], backbone="")
    )


def test_patches_are_all_that_a_later_training_of_the_plain_transformer_changes():
    before, now = (load_recipe(read_training(TRAININGS / f"tiny-vit{n}.toml").backbone).model for n in ("-2", "-3"))
    assert (before.encoder.patch, now.encoder.patch) == (16, 8)
    assert before.encoder.patch * before.encoder.grid == now.encoder.patch * now.encoder.grid
    assert replace(before, name=now.name, encoder=now.encoder) == now
