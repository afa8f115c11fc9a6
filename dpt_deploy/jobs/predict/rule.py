"""Another image rule for one run: the original tools' ``--height`` and ``--square``."""

from __future__ import annotations

from dataclasses import replace

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size


def with_rule(
    artifact: Artifact, runtime: str, *, height: int | None, square: bool, size: Size | None = None
) -> Artifact:
    """The artefact with the image rule that a run asks for; ``artifact`` itself if it asks for none.

    Args:
        artifact: its own rule is kept in all else (how it rounds, mean, standard deviation).
        runtime: name of the runtime that is to run it.
        height: new bound of both sides, in pixels, before they are rounded to the network's stride.
        square: do not keep the aspect of the image: both sides are exactly the rule's, rounded to the stride.
        size: a fixed network size, which leaves nothing to rules.

    Raises:
        UsageError: the artefact takes one size only, ``size`` is given too, or the runtime resizes by the file's own
            rule.
    """
    if height is None and not square:
        return artifact
    given = " and ".join([*(["--height"] if height else []), *(["--square"] if square else [])])
    sidecar = artifact.sidecar
    if size is not None:
        raise UsageError(f"{given} changes the resize rule, which --size replaces", hint="leave one of them out")
    if only := sidecar.model.only_size or sidecar.shapes.static_size:
        raise UsageError(f"this model takes images of {only} pixels only", hint=f"leave {given} out")
    if runtime == "native":
        raise UsageError(
            f"the C++ library resizes by the file's own rule, so {given} has no effect there",
            hint="use --size HxW, or another runtime",
        )
    image = replace(sidecar.image, keep_aspect=sidecar.image.keep_aspect and not square)
    if height is not None:
        image = replace(image, height=height, width=height)
    return replace(artifact, sidecar=replace(sidecar, image=image))
