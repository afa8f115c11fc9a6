"""``dpt-deploy run``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli.shared.archives import archive_options, show_summary
from dpt_deploy.cli.shared.bags import bag_options, check_no_bag, for_bag, is_bag_name, show_bag
from dpt_deploy.cli.shared.options import PATH, artifact_argument, json_option
from dpt_deploy.cli.shared.output import print_json, print_path, say
from dpt_deploy.cli.shared.points import points_from, points_options
from dpt_deploy.cli.shared.prediction import prediction_options
from dpt_deploy.cli.shared.video import check_no_camera, check_no_video, for_camera, show_live, video_options
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import zoo_names


@click.command()
@artifact_argument
@click.argument("source", type=PATH, required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(),  # as text: a slash at the end means a folder
    help="Output file (its suffix chooses the format) or folder.  [default: next to the input]",
)
@prediction_options
@points_options
@video_options
@archive_options
@bag_options
@json_option
def command(artifact: Path, as_json: bool, **options: Any) -> None:
    """Apply an exported model to an image, a folder, a video, or a ROS bag.

    ARTIFACT is the file of an exported model or an engine, or the name of a model whose weights are in the package:
    tiny, tiny-vit, tiny-conv, tiny-both. Such a model is exported once, into the cache.

    \b
    png      16-bit depth, scaled to the full range (as the original tools write it)
    pfm      raw float32 depth
    color    colour-mapped depth
    side     the image and its colour-mapped depth, side by side
    metric   16-bit metres x 256 (KITTI) or x 1000 (NYU)
    ply      coloured points in space; needs the camera (--fov, --focal or --intrinsics)
    glb      the same as glTF 2.0, for viewers and browsers
    labels   palette PNG of classes, 0 is background
    overlay  class colours blended over the image

    If a model has several outputs, each one is written in every format that fits it. File names then contain the
    output's name.

    \b
    dpt-deploy run tiny photo.jpg
    dpt-deploy run out/hybrid-fp32.onnx photo.jpg -o depth.png
    dpt-deploy run out/hybrid-seg150-fp32.onnx photos/ -o labels/ --format overlay
    dpt-deploy run tiny photo.jpg -o cloud.ply --fov 65
    dpt-deploy run tiny street.mp4 -o depth.mp4 --stable
    dpt-deploy run tiny --camera 0 --show --stable
    dpt-deploy run out/hybrid-fp32.onnx archive/ -o depth/ --recursive --resume

    --recursive, --manifest, --resume and --shard are for large folders: every image gets a row in a manifest, and a
    run that was stopped goes on where it was.

    --topic, --camera-info, --points and --others are for bags: camera messages in, messages of depth, labels and points
    out.

    \b
    dpt-deploy run out/hybrid-fp32.onnx in.bag -o out.bag --topic /camera/image_raw
    """
    if str(artifact) in zoo_names() and not artifact.exists():
        artifact = _by_name(str(artifact))
    if options["camera"] is not None:
        _run_camera(artifact, as_json=as_json, **for_camera(options))
        return
    options = check_no_camera(options)
    source: Path = options.pop("source")
    if is_bag_name(source):
        _run_bag(artifact, source, as_json=as_json, **for_bag(options))
        return
    options = check_no_bag(options)
    archive = {name: options.pop(name) for name in ("recursive", "manifest", "resume", "shard")}
    points = points_from(options)
    if not any(archive.values()):
        _run_files(artifact, source, as_json=as_json, points=points, **options)
        return
    if points is not None:
        raise UsageError(
            "archives have no points",
            hint="run on the folder without --recursive, --manifest, --resume and --shard; --focal alone is fine",
        )
    _run_archive(artifact, source, as_json=as_json, **archive, **check_no_video(options))


def _run_files(artifact: Path, source: Path, *, as_json: bool, **options: Any) -> None:
    from dpt_deploy.jobs.predict.files import run_files

    results = run_files(artifact, source, **options)
    failed = [result for result in results if result.error]
    if as_json:
        print_json(
            [
                {
                    "source": str(r.source),
                    "written": [str(p) for p in r.written],
                    "frames": r.frames,
                    "frames_claimed": r.frames_claimed,
                    "quantities": r.quantities,
                    "error": r.error,
                }
                for r in results
            ]
        )
    else:
        for result in results:
            for path in result.written:
                print_path(path)
    for result in failed:
        say(f"{'incomplete' if result.written else 'skipped'}: {result.error}", style="red")
    if failed:
        raise BadFileError(
            f"{len(failed)} of {len(results)} files could not be processed in full; the others were written",
            hint="see the message for each file above",
        )


def _run_camera(artifact: Path, *, as_json: bool, **options: Any) -> None:
    from dpt_deploy.jobs.predict.live.live import run_live

    show_live(run_live(artifact, **options), as_json=as_json)


def _run_archive(artifact: Path, source: Path, *, as_json: bool, **options: Any) -> None:
    from dpt_deploy.jobs.predict.archive.archive import run_archive

    show_summary(run_archive(artifact, source, **options), as_json=as_json)


def _run_bag(artifact: Path, source: Path, *, as_json: bool, **options: Any) -> None:
    from dpt_deploy.core.optional import load_attribute

    run: Any = load_attribute("dpt_deploy.jobs.predict.ros.bag:run_bag", which="ros", purpose="reading a bag")
    show_bag(run(artifact, source, **options), as_json=as_json)


def _by_name(name: str) -> Path:
    """The export of a network that is named instead of a file, in the cache."""
    from dpt_deploy.core.optional import load_attribute

    export: Any = load_attribute(
        "dpt_deploy.jobs.export.named:exported_by_name", which="export", purpose=f"exporting {name!r}"
    )
    path: Path = export(name)
    return path
