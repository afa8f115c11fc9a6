"""Procedural scenes with exact depth and labels: deterministic by seed, at any resolution, on CPU or GPU."""

from dpt_deploy.study.plan import TRAINING_SEEDS
from dpt_deploy.study.scenes.render import Scene, render_scene
from dpt_deploy.study.scenes.things import CLASSES

__all__ = ["CLASSES", "TRAINING_SEEDS", "Scene", "render_scene"]
