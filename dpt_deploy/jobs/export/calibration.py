"""Images to measure tensors on: a user's folder or rendered scenes, one at a time, at every requested size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Recipe
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import resample
from dpt_deploy.scenes import seeds
from dpt_deploy.scenes.render import render_scene

Pixels = NDArray[np.uint8]

FEW = 16  # images; with fewer, a warning is due


@dataclass(frozen=True)
class Calibration:
    """Images to measure on. ``images`` starts over at each call; ``source`` describes where they come from."""

    source: str
    count: int
    images: Callable[[], Iterator[Pixels]]

    def at(self, sizes: Sequence[Size]) -> Iterator[tuple[Size, Pixels]]:
        """Yield every image at every size, as a batch of one: (1, H, W, 3)."""
        for image in self.images():
            for size in sizes:
                yield size, _resized(image, size)


def from_scenes() -> Calibration:
    """Render scenes that no training and no study uses."""
    count, side = seeds.CALIBRATION_SCENES, seeds.CALIBRATION_SIDE

    def images() -> Iterator[Pixels]:
        for seed in seeds.CALIBRATION[:count]:
            yield _rendered(seed, side)

    return Calibration(f"{count} rendered scenes", count, images)


def from_folder(folder: Path | str) -> Calibration:
    """Find the images of a folder and its subfolders; files that are not usable are left out with a message.

    Raises:
        BadFileError: no such folder, or not one image in it can be read.
    """
    # The extra "images" is needed for photographs only.
    from dpt_deploy.imaging.files import IMAGE_SUFFIXES, read_image

    folder = Path(folder)
    if not folder.is_dir():
        raise BadFileError(f"{folder} is not a folder", hint="give a folder of photographs as --calibration")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    good = []
    for path in files:
        try:
            if not _constant(read_image(path)):
                good.append(path)
            else:
                say(f"{path} is of one colour: left out")
        except BadFileError as exc:
            say(f"{exc}: left out")
    if not good:
        raise BadFileError(
            f"{folder} holds no image to calibrate with ({len(files)} files look like one)",
            hint="photographs like those the model will see, 100 or more",
        )
    if len(good) < FEW:
        say(f"only {len(good)} images in {folder}: ranges of rare images may be missed; 100 or more are better")
    return Calibration(f"{len(good)} images of {folder.name}", len(good), lambda: (read_image(path) for path in good))


def default_sizes(recipe: Recipe, static: Size | None = None) -> tuple[Size, ...]:
    """Return the training size and 5/3 of it, the span of the paper's Figure 4; for a static graph its own size."""
    if static:
        return (static,)
    stride = recipe.model.stride
    larger = (round(side * 5 / 3 / stride) * stride for side in (recipe.image.height, recipe.image.width))
    return Size(recipe.image.height, recipe.image.width), Size(*larger)


def check_sizes(sizes: Sequence[Size], recipe: Recipe, static: Size | None) -> tuple[Size, ...]:
    """Return ``sizes``, or the default ones if it is empty.

    Raises:
        UsageError: the graph does not accept one of them.
    """
    for size in sizes:
        recipe.model.check_size(size)
        if static and size != static:
            raise UsageError(f"--res {size}: the graph is static at {static}", hint="leave --res or --static out")
    return tuple(sizes) or default_sizes(recipe, static)


@functools.cache  # an INT8 export reads the scenes several times; each takes about a second to render and 2 MB to keep
def _rendered(seed: int, side: int) -> Pixels:
    image = render_scene(seed, height=side, width=side).image
    image.setflags(write=False)
    return image


def _constant(image: Pixels) -> bool:
    return bool((image == image[0, 0]).all())


def _resized(image: Pixels, size: Size) -> Pixels:
    """Resize to exactly ``size``; the aspect changes, which matters little to a range."""
    values = resample.resize_cubic(image.astype(np.float64), size)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)[None]
