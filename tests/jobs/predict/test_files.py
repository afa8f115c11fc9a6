"""Files through an artefact: images of every kind, folders with bad files, videos, and every output format."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image
from support import oracles
from support.reporting import recording
from support.tiny import copied, exported, tiny_model

from dpt_deploy.artifact.store import write_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import encode
from dpt_deploy.imaging.files import read_image, read_pfm
from dpt_deploy.imaging.palette import palette
from dpt_deploy.imaging.video import iter_video
from dpt_deploy.jobs.predict.files import run_files
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.runtime.predictor import Predictor

DEPTH, METRIC, SEGMENTATION = "tiny-vit", "tiny-metric", "tiny-seg"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "in" / "coffee.png"
    path.parent.mkdir()
    Image.fromarray(skimage.data.coffee()[::4, ::4]).save(path)  # 100 x 150
    return path


def expected_depth(name, path):
    with load(exported(name).path) as predictor:
        return predictor(read_image(path)).depth


def written(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def canonical(tmp_path):
    """The tiny model, described as one that returns canonical depth for a camera of 300 pixels."""
    path, sidecar = copied(exported(DEPTH), tmp_path / "canonical").path, exported(DEPTH).sidecar
    model = replace(sidecar.model, quantity="canonical depth", canonical_focal=300.0, png_scale=256.0)
    outputs = tuple(replace(output, task="canonical-depth") for output in sidecar.outputs)
    write_sidecar(path, replace(sidecar, model=model, outputs=outputs))
    return path


# --- focal length -----------------------------------------------------------------------------------------------------


def test_with_a_focal_length_canonical_depth_is_written_in_metres(photo, tmp_path):
    path, depth = canonical(tmp_path), expected_depth(DEPTH, photo)
    (result,) = run_files(path, photo, tmp_path / "out", formats=("pfm", "metric"), focal=(200.0, 210.0))
    assert result.quantities == {"predicted_depth": "metres"}
    with load(path) as predictor:
        size = predictor.network_size(100, 150)
        metres = predictor(read_image(photo)).in_metres((200.0, 210.0))
    factor = (200 * size.width / 150 + 210 * size.height / 100) / 2 / 300
    np.testing.assert_allclose(read_pfm(result.written[0]), depth * factor, rtol=1e-5)
    np.testing.assert_array_equal(metres.depth, read_pfm(result.written[0]))
    assert metres.metric
    assert np.abs(written(result.written[1]) - 256 * depth * factor).max() <= 1


def test_without_a_focal_length_nothing_calls_canonical_depth_metres(photo, tmp_path, capsys):
    path = canonical(tmp_path)
    assert call(["run", str(path), str(photo), "-o", str(tmp_path / "out"), "--format", "pfm", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["quantities"] == {"predicted_depth": "canonical depth"}
    assert "--focal" in err
    assert "metric" not in err
    with pytest.raises(UsageError, match="'metric' needs a model that returns metres"):
        run_files(path, photo, tmp_path / "out", formats=("metric",))


@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf", "x", "1,2,3", ""])
def test_what_is_no_focal_length_is_refused(value, photo, tmp_path):
    assert call(["run", str(canonical(tmp_path)), str(photo), "--focal", value]) == UsageError.exit_code


def test_a_focal_length_for_another_quantity_is_refused(photo, tmp_path):
    with pytest.raises(UsageError, match="returns inverse depth; a focal length does not change it"):
        run_files(exported(DEPTH).path, photo, tmp_path / "out", focal=(200.0, 200.0))


# --- formats ----------------------------------------------------------------------------------------------------------


def test_depth_of_one_image_is_written_as_numbers_and_in_colours(photo, tmp_path):
    (result,) = run_files(exported(DEPTH).path, photo, tmp_path / "out")
    depth = expected_depth(DEPTH, photo)
    assert [path.name for path in result.written] == ["coffee.png", "coffee.pfm", "coffee-color.png"]
    np.testing.assert_array_equal(read_pfm(result.written[1]), depth)
    stretched = 65535 * (depth - depth.min()) / (depth.max() - depth.min())
    assert written(result.written[0]).dtype == np.uint16
    assert np.abs(written(result.written[0]) - np.floor(stretched)).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".pfm"])
def test_the_suffix_of_the_output_chooses_the_format(suffix, photo, tmp_path):
    target = tmp_path / f"depth{suffix}"
    (result,) = run_files(exported(DEPTH).path, photo, target)
    assert result.written == (target,)
    found = read_pfm(target) if suffix == ".pfm" else written(target)
    assert found.shape == (100, 150)


def test_colour_is_a_picture_of_the_depth(photo, tmp_path):
    (result,) = run_files(exported(DEPTH).path, photo, tmp_path / "out", formats=("color",))
    depth = expected_depth(DEPTH, photo)
    picture = read_image(result.written[0])
    assert picture.shape == (100, 150, 3)
    bright = picture.sum(axis=2).astype(float)
    assert bright[np.unravel_index(depth.argmax(), depth.shape)] > bright[np.unravel_index(depth.argmin(), depth.shape)]


def test_side_by_side_has_the_image_on_the_left_and_its_colours_on_the_right(photo, tmp_path):
    (result,) = run_files(exported(DEPTH).path, photo, tmp_path / "out", formats=("side", "color"))
    both, colours = (read_image(path) for path in result.written)
    assert [path.name for path in result.written] == ["coffee-side.png", "coffee-color.png"]
    np.testing.assert_array_equal(both, np.hstack([read_image(photo), colours]))


def test_a_tag_is_part_of_every_name_as_in_the_original_tools(photo, tmp_path):
    (result,) = run_files(exported(DEPTH).path, photo, tmp_path / "out", tag="dpt_tiny", formats=("png", "pfm"))
    assert [path.name for path in result.written] == ["coffee-dpt_tiny.png", "coffee-dpt_tiny.pfm"]
    (result,) = run_files(exported(DEPTH).path, photo, None, tag="x", formats=("pfm",))
    assert result.written == (photo.with_name("coffee-x.pfm"),)


@pytest.mark.parametrize(
    ("tag", "out", "said"), [("a/b", "o", "no part"), ("a\n", "o", "no part"), ("x", "a.png", "both")]
)
def test_a_tag_that_can_be_no_part_of_a_name_is_refused(tag, out, said, photo, tmp_path):
    with pytest.raises(UsageError, match=said):
        run_files(exported(DEPTH).path, photo, tmp_path / out, tag=tag)


def test_height_and_square_change_the_resize_rule(photo, tmp_path):
    artifact = exported(DEPTH)
    image = artifact.sidecar.image
    found = {}
    for options, rule in (
        ({"height": 64}, replace(image, height=64, width=64)),
        ({"square": True}, replace(image, keep_aspect=False)),
    ):
        (result,) = run_files(artifact.path, photo, tmp_path / "out", formats=("pfm",), **options)
        depth = oracles.original_depth(tiny_model(DEPTH), read_image(photo), rule)
        np.testing.assert_allclose(read_pfm(result.written[0]), depth, atol=1e-4 * np.ptp(depth))
        found[rule] = depth
    assert all(np.abs(depth - expected_depth(DEPTH, photo)).max() > 1e-2 * np.ptp(depth) for depth in found.values())


def test_metric_png_holds_metres_times_the_scale_of_the_data_set(photo, tmp_path):
    (result,) = run_files(exported(METRIC).path, photo, tmp_path / "out", formats=("metric",))
    metres = oracles.original_depth(tiny_model(METRIC), read_image(photo), exported(METRIC).sidecar.image)
    values = written(result.written[0])
    assert values.dtype == np.uint16
    assert np.abs(values - 256 * metres).max() <= 1 + 256 * 1e-4 * (metres.max() - metres.min())
    assert values.max() > 1000  # some metres, and not a stretched range
    assert values.max() < 65535


def test_labels_are_a_palette_image_of_the_classes(photo, tmp_path):
    (result,) = run_files(exported(SEGMENTATION).path, photo, tmp_path / "out")
    with load(exported(SEGMENTATION).path) as predictor:
        labels = predictor(read_image(photo)).labels
    with Image.open(result.written[0]) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), labels)
        colours = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colours, palette(7)[labels])


def test_an_overlay_lies_between_the_image_and_its_labels(photo, tmp_path):
    formats = ("overlay", "labels")
    (result,) = run_files(exported(SEGMENTATION).path, photo, tmp_path / "out", formats=formats)
    overlay, labels = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in result.written)
    assert [path.name for path in result.written] == ["coffee-overlay.png", "coffee-labels.png"]
    assert np.abs(2 * overlay - labels - read_image(photo)).max() <= 2


@pytest.mark.parametrize(("name", "wrong"), [(DEPTH, "labels"), (DEPTH, "metric"), (SEGMENTATION, "png")])
def test_a_format_that_the_model_does_not_have_is_a_usage_error(name, wrong, photo, tmp_path):
    with pytest.raises(UsageError, match=repr(wrong)):
        run_files(exported(name).path, photo, tmp_path / "out", formats=(wrong,))
    assert not (tmp_path / "out").exists()


# --- sizes and crops --------------------------------------------------------------------------------------------------


def test_a_network_size_may_be_given(photo, tmp_path):
    (result,) = run_files(exported(DEPTH).path, photo, tmp_path / "d.pfm", size=Size(64, 160))
    with load(exported(DEPTH).path, size=Size(64, 160)) as predictor:
        np.testing.assert_array_equal(read_pfm(result.written[0]), predictor(read_image(photo)).depth)
    assert np.abs(read_pfm(result.written[0]) - expected_depth(DEPTH, photo)).max() > 1e-3


def test_the_kitti_crop_is_the_bottom_and_the_middle(tmp_path):
    street = np.random.default_rng(0).integers(0, 256, (375, 1242, 3), dtype=np.uint8)
    Image.fromarray(street).save(tmp_path / "street.png")
    Image.fromarray(street[23:, 13:1229]).save(tmp_path / "cropped.png")
    for name, crop in (("street", True), ("cropped", False)):
        run_files(exported(METRIC).path, tmp_path / f"{name}.png", tmp_path / f"{name}.pfm", kitti_crop=crop)
    found, expected = (read_pfm(tmp_path / f"{name}.pfm") for name in ("street", "cropped"))
    assert found.shape == (352, 1216)
    np.testing.assert_array_equal(found, expected)


# --- images of every kind ---------------------------------------------------------------------------------------------

RGB = np.ascontiguousarray(skimage.data.coffee()[::8, ::8])  # 50 x 75
GREY = RGB[..., 1]


def save_rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is shown a quarter turn clockwise
    Image.fromarray(RGB).save(path, exif=exif)


KINDS = {  # file name, how it is written, height and width of the result
    "one-pixel.png": (lambda path: Image.fromarray(RGB[:1, :1]).save(path), (1, 1)),
    "grey.png": (lambda path: Image.fromarray(GREY).save(path), (50, 75)),
    "rgba.png": (lambda path: Image.fromarray(RGB).convert("RGBA").save(path), (50, 75)),
    "palette.png": (lambda path: Image.fromarray(RGB).convert("P").save(path), (50, 75)),
    "sixteen.png": (lambda path: cv2.imwrite(str(path), GREY.astype(np.uint16) * 257), (50, 75)),
    "rotated.jpg": (save_rotated, (75, 50)),
    "bitmap.bmp": (lambda path: Image.fromarray(RGB).save(path), (50, 75)),
    "web.webp": (lambda path: Image.fromarray(RGB).save(path), (50, 75)),
    "tagged.tif": (lambda path: Image.fromarray(RGB).save(path), (50, 75)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_unusual_images_just_work(kind, tmp_path):
    save, shape = KINDS[kind]
    save(tmp_path / kind)
    (result,) = run_files(exported(DEPTH).path, tmp_path / kind, tmp_path / "d.pfm")
    assert read_pfm(result.written[0]).shape == shape


def test_sixteen_bits_and_grey_see_the_same_picture(tmp_path):
    for kind in ("grey.png", "sixteen.png"):
        KINDS[kind][0](tmp_path / kind)
        run_files(exported(DEPTH).path, tmp_path / kind, tmp_path / f"{kind}.pfm")
    left, right = (read_pfm(tmp_path / f"{kind}.pfm") for kind in ("grey.png", "sixteen.png"))
    np.testing.assert_array_equal(left, right)


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    for name in ("a.png", "c.jpg"):
        Image.fromarray(RGB).save(path / name)
    (path / "b.png").write_bytes((path / "a.png").read_bytes()[:300])  # cut short
    (path / "notes.txt").write_text("not an image")
    return path


def test_a_folder_goes_on_past_a_corrupt_file_and_reports_it(folder, tmp_path):
    out = tmp_path / "out"
    with recording() as reporter:
        results = run_files(exported(DEPTH).path, folder, out)
    (task,) = reporter.tasks
    assert task.states == [(1, 3, "a.png"), (2, 3, "b.png"), (3, 3, "c.jpg")]
    assert [(result.source.name, bool(result.error)) for result in results] == [
        ("a.png", False),
        ("b.png", True),
        ("c.jpg", False),
    ]
    assert sorted(path.name for path in out.iterdir()) == ["a.pfm", "a.png", "c.pfm", "c.png"]


def test_working_on_several_images_at_once_changes_no_byte(folder, tmp_path, monkeypatch):
    """A predictor that overlaps its own work gets one image after the other."""
    path = exported(DEPTH).path
    divided = run_files(path, folder, tmp_path / "divided", formats=("png", "pfm", "color"))
    monkeypatch.setattr(Predictor, "overlaps", True)
    monkeypatch.setattr("dpt_deploy.jobs.predict.files._STREAMS", 1)
    alone = run_files(path, folder, tmp_path / "alone", formats=("png", "pfm", "color"))
    assert [(each.source, each.error) for each in divided] == [(each.source, each.error) for each in alone]
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("divided", "alone"))
    assert [file.name for file in first] == [file.name for file in second] != []
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_the_command_ends_with_exit_code_4_and_names_the_file(folder, tmp_path, capsys):
    assert call(["run", str(exported(DEPTH).path), str(folder), "-o", str(tmp_path / "out")]) == 4
    printed = capsys.readouterr()
    assert "b.png" in printed.err
    assert "1 of 3 files" in printed.err
    assert len(printed.out.split()) == 4


def test_a_single_corrupt_file_is_an_error(folder, tmp_path):
    with pytest.raises(BadFileError, match=r"b\.png"):
        run_files(exported(DEPTH).path, folder / "b.png", tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFileError, match="holds no image"):
        run_files(exported(DEPTH).path, tmp_path / "empty", tmp_path / "out")


def test_a_folder_skips_a_link_to_itself(folder, tmp_path):
    (folder / "b.png").unlink()
    (folder / "again").symlink_to(folder)
    (folder / "again.png").symlink_to(folder)
    results = run_files(exported(DEPTH).path, folder, tmp_path / "out")
    assert [(result.source.name, result.error) for result in results] == [("a.png", ""), ("c.jpg", "")]


def test_every_image_of_a_folder_is_found_whatever_its_suffix(tmp_path):
    (tmp_path / "photos").mkdir()
    kinds = {".avif": "AVIF", ".gif": "GIF", ".jfif": "JPEG", ".jp2": "JPEG2000", ".mpo": "MPO"}
    Image.init()
    names = [f"a{suffix}" for suffix, kind in kinds.items() if kind in Image.SAVE]
    for name in names:
        Image.fromarray(RGB).save(tmp_path / "photos" / name, kinds[Path(name).suffix])
    results = run_files(exported(DEPTH).path, tmp_path / "photos", tmp_path / "out", formats=("png",))
    assert [(result.source.name, result.error) for result in results] == [(name, "") for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{name}.png" for name in names]


def test_the_network_has_as_many_callers_as_its_runtime_has_streams(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in "abcd":
        Image.fromarray(RGB).save(tmp_path / "in" / f"{name}.png")
    inside, most, compute, lock = set(), {}, Predictor.compute, threading.Lock()

    def counted(predictor, begun):
        with lock:
            inside.add(threading.get_ident())
            most[predictor.streams] = max(most.get(predictor.streams, 0), len(inside))
        found = compute(predictor, begun)
        with lock:
            inside.remove(threading.get_ident())
        return found

    monkeypatch.setattr(Predictor, "compute", counted)
    monkeypatch.setattr("dpt_deploy.jobs.predict.files.cpu_count", lambda: 4)
    for streams in (1, 2):
        monkeypatch.setattr("dpt_deploy.jobs.predict.files._STREAMS", streams)
        run_files(exported(DEPTH).path, tmp_path / "in", tmp_path / f"out{streams}")
    assert set(most) == {1, 2}
    assert all(count <= streams for streams, count in most.items())


# --- video ------------------------------------------------------------------------------------------------------------


def save_video(path, frames=3):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (80, 48))
    for index in range(frames):
        writer.write(np.roll(RGB[:48, :75], 8 * index, axis=1).repeat(2, axis=1)[:, :80, ::-1].copy())
    writer.release()


@pytest.mark.parametrize("name", [DEPTH, SEGMENTATION])
def test_a_video_becomes_a_video_of_as_many_frames(name, tmp_path):
    save_video(tmp_path / "in.mp4")
    (result,) = run_files(exported(name).path, tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert (result.frames, result.written) == (3, (tmp_path / "out.mp4",))
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (3, 12)
    assert video.read()[1].shape == (48, 80, 3)


def test_a_video_in_two_formats_becomes_two_videos(tmp_path):
    save_video(tmp_path / "street.mp4")
    (result,) = run_files(exported(DEPTH).path, tmp_path / "street.mp4", tmp_path / "out", formats=("color", "side"))
    assert [path.name for path in result.written] == ["street-color.mp4", "street-side.mp4"]
    narrow, wide = (next(iter(iter_video(path).frames)) for path in result.written)
    assert wide.shape[1] == 2 * narrow.shape[1]


def test_what_is_no_video_is_an_error(tmp_path):
    (tmp_path / "in.mp4").write_bytes(b"not a video")
    with pytest.raises(BadFileError, match=r"in\.mp4"):
        run_files(exported(DEPTH).path, tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_is_not_written_into_a_container_that_cannot_hold_the_codec(tmp_path, capsys):
    save_video(tmp_path / "in.mp4")
    argv = ["run", str(exported(DEPTH).path), str(tmp_path / "in.mp4"), "-o", str(tmp_path / "x.webm")]
    assert call(argv) == 2
    said = capsys.readouterr().err
    assert "expected the suffix .avi or .m4v or .mkv or .mov or .mp4" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


# --- without torch ----------------------------------------------------------------------------------------------------

WITHOUT_TORCH = """
import sys
from pathlib import Path
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "onnx", "onnx_ir", "onnxscript", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from dpt_deploy.cli import main
main(sys.argv[1:])
"""


def test_the_run_command_needs_no_torch(photo, tmp_path):
    arguments = ["run", str(exported(DEPTH).path), str(photo), "-o", str(tmp_path / "depth.png")]
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    expected = encode.depth_to_uint16(expected_depth(DEPTH, photo))
    np.testing.assert_array_equal(written(tmp_path / "depth.png"), expected)


DAMAGED = Path(__file__).parents[2] / "support" / "videos" / "corrupt_mid.mp4"


def test_a_damaged_video_is_written_and_ends_with_exit_code_4(tmp_path, capsys):
    out = tmp_path / "new.v1"
    assert call(["run", str(exported(DEPTH).path), str(DAMAGED), "-o", f"{out}/", "--json", "--size", "32x32"]) == 4
    shown = capsys.readouterr()
    (result,) = json.loads(shown.out)
    assert (result["frames"], result["frames_claimed"]) == (56, 60)
    assert result["written"] == [str(out / "corrupt_mid.mp4")]
    assert "56 of 60 frames" in shown.err


def test_a_folder_run_names_what_it_leaves_out(folder, tmp_path):
    (folder / "deeper").mkdir()
    (folder / "notes.txt").write_text("text")
    with recording() as messages:
        run_files(exported(DEPTH).path, folder, tmp_path / "out")
    assert any("deeper" in line and "notes.txt" in line for line in messages.lines)
