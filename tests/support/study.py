"""A finished study whose losses are planned: for tests of what is said about it."""

from dataclasses import replace

import numpy as np

from dpt_deploy.core.size import Size
from dpt_deploy.jobs.study.outcome import Candidate, Data, Study, analysed, originals
from dpt_deploy.jobs.study.prices import price
from dpt_deploy.jobs.study.resolution import Scores

SIZES = tuple(Size(side, side) for side in (192, 256, 320, 512))
GROWTH = {"hybrid": (0, 4, 8, 20), "vit": (0, 5, 10, 25), "conv": (0, 10, 20, 50), "vit-nearest": (0, 9, 18, 44)}
FAMILY = {"conv": "convolutional"}


def candidate(name, **changes):
    made = Candidate(
        name, name, FAMILY.get(name, "transformer"), "ort", "fp32", f"{name}.onnx", "ab" * 32, f"{name}.pt"
    )
    return replace(made, control="nearest" if "nearest" in name else "", **changes)


def made(growth=GROWTH, *, images=40, noise=0.005, random=False, failures=(), references=(), no_control=""):
    """A study whose losses are those of ``growth``, with little noise."""
    rng = np.random.default_rng(0)
    difficulty = rng.lognormal(-2, 0.5, images)
    factors = 1 + np.array(list(growth.values()), float)[:, :, None] / 100
    factors = factors + noise * rng.standard_normal((len(growth), 4, images))
    factors[:, 0] = 1
    names = tuple(f"scene-{index}" for index in range(images))
    scores = Scores(tuple(growth), SIZES, SIZES[0], names, difficulty * factors, 3 * difficulty)
    candidates = tuple(candidate(name, random=random) for name in growth)
    return Study(
        Data("rendered scenes", "AbsRel", "scenes abc", 1_000_000),
        candidates,
        scores,
        analysed(candidates, scores, "vit" if "vit" in growth else None, 0),
        tuple(failures),
        no_control,
        {"processor": "a processor"},
        0,
        tuple(references),
    )


def in_precisions():
    """Two models in FP32 and INT8; INT8 errs 1 % more at every size, and has one point of δ1 less."""
    growth = {f"{model}{precision}": GROWTH[model] for model in ("vit", "conv") for precision in ("", " int8-cpu")}
    study = made(growth, no_control="it was not asked for")
    values = study.scores.values.copy()
    values[1::2] = 1.01 * values[::2]
    scores = replace(study.scores, values=values)
    candidates = tuple(
        replace(each, model=each.model.partition(" ")[0], precision="int8-cpu" if " " in each.name else "fp32")
        for each in study.candidates
    )
    delta1 = np.broadcast_to(np.array([0.8, 0.79, 0.8, 0.79])[:, None, None], values.shape)
    prices = tuple(price(scores, delta1, *pair, seed=0) for pair in originals(candidates))
    return replace(
        study, scores=scores, candidates=candidates, analysis=analysed(candidates, scores, None, 0), prices=prices
    )
