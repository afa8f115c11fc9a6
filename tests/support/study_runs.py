"""A small study of miniature models, as the command runs it and as a setup, and what it leaves."""

import json

from dpt_deploy.core.size import Size
from dpt_deploy.jobs.study import study

SIZES = "96,128"


def arguments(folder, paths, *extra, models=None, res=SIZES, scenes=3):
    """Arguments of the command, without control and drawings, into ``folder / "out"``."""
    return (
        "study",
        *("--backbone", ",".join(models or paths), "--res", res, "--scenes", scenes),
        *("--control", "none", "--no-plot", "-o", folder / "out", *extra),
    )


def outcome(folder):
    return json.loads((folder / "out" / "study.json").read_text())


def setup_of(models, **changes):
    asked = {"models": tuple(models), "sizes": (Size(96, 96), Size(128, 128)), "scenes": 3, "control": None}
    return study.prepare_study(study.StudyRequest(**{**asked, **changes}))
