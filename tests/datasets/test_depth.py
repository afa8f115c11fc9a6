"""Readers of depth against what was written, and against files that are not what they should be."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("h5py", reason="h5py is not installed: pip install -e '.[study]'")
pytest.importorskip("scipy", reason="scipy is not installed: pip install -e '.[study]'")

import h5py
from PIL import Image
from scipy.io import savemat
from support import datasets as writers
from support.datasets import DRIVE_TRAIN, DRIVE_VAL, EIGEN_LIST

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.registry import open_dataset
from dpt_deploy.imaging.files import read_image
from dpt_deploy.imaging.rules import KITTI_CROP
from dpt_deploy.measure.metrics import evaluation_crop


def check(sample, truth):
    """Image, metres and hole are read as they were written."""
    assert np.array_equal(sample.image, truth.image)
    assert sample.depth.dtype == np.float32
    assert np.array_equal(sample.depth, truth.depth)
    assert np.array_equal(sample.valid, truth.depth > 0)
    assert not sample.valid.all()


def refuses(spec, *messages):
    """Opening, or reading the first sample, fails with all of these."""
    with pytest.raises(BadFileError) as caught:
        open_dataset(spec)[0]
    assert [message for message in messages if message not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
    assert caught.value.hint


# --- NYU --------------------------------------------------------------------------------------------------------------


def test_nyu_reads_the_test_split_in_its_order(tmp_path):
    truths = writers.write_nyu(tmp_path, test=(3, 1))
    dataset = open_dataset(f"nyu:{tmp_path}")
    assert dataset.names == ["0003", "0001"]
    for sample, truth in zip(dataset, truths, strict=True):
        check(sample, truth)


def test_nyu_metric_has_a_black_frame_and_eigens_crop(tmp_path):
    (truth, *_) = writers.write_nyu(tmp_path)
    sample = open_dataset(f"nyu-metric:{tmp_path}")[0]
    inside, crop = np.zeros((480, 640), bool), np.zeros((480, 640), bool)
    inside[7:474, 7:632] = crop[45:471, 41:601] = True
    assert np.array_equal(sample.image, truth.image * inside[..., None])
    assert np.array_equal(sample.valid, (truth.depth > 0) & crop)
    assert np.array_equal(sample.depth, truth.depth)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
def test_nyu_depth_that_is_none_is_not_valid(tmp_path, bad):
    writers.write_nyu(tmp_path)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["rawDepths"][2, 30, 20] = bad
    sample = open_dataset(f"nyu:{tmp_path}")[0]
    assert (sample.valid[20, 30], sample.depth[20, 30]) == (False, 0.0)
    assert np.isfinite(sample.depth).all()


@pytest.mark.parametrize("name", ["nyu_depth_v2_labeled.mat", "splits.mat"])
@pytest.mark.parametrize("how", ["truncated", "empty", "text", "folder"])
def test_nyu_refuses_a_damaged_file(tmp_path, name, how):
    writers.write_nyu(tmp_path)
    path = tmp_path / name
    content = {"truncated": path.read_bytes()[:200], "empty": b"", "text": b"<html>Not found</html>" * 20}.get(how)
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    refuses(f"nyu:{tmp_path}", "cannot read", str(path))


def test_nyu_refuses_half_a_labelled_file(tmp_path):
    writers.write_nyu(tmp_path)
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuses(f"nyu:{tmp_path}", f"cannot read {path}")


def test_nyu_names_the_sample_of_a_damaged_chunk(tmp_path):
    writers.write_nyu(tmp_path)
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "r+") as file:
        depths = file["rawDepths"][:]
        del file["rawDepths"]
        file.create_dataset("rawDepths", data=depths, chunks=(1, 640, 480), compression="gzip")
        chunk = file["rawDepths"].id.get_chunk_info(2)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset + chunk.size // 2)
        stream.write(b"\xff" * 64)
    dataset = open_dataset(f"nyu:{tmp_path}")
    with pytest.raises(BadFileError, match="nyu sample '0003': cannot read"):
        dataset[0]
    assert dataset[1].name == "0001"


def test_nyu_refuses_an_array_that_is_missing_or_of_another_shape(tmp_path):
    writers.write_nyu(tmp_path)
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "r+") as file:
        file["depths"] = file["rawDepths"][:]
        del file["rawDepths"]
    refuses(f"nyu:{tmp_path}", f"cannot read {path}", "rawDepths")
    with h5py.File(path, "r+") as file:
        file["rawDepths"] = file["depths"][:].transpose(0, 2, 1)
    refuses(f"nyu:{tmp_path}", "rawDepths (3, 480, 640)", "expected (N, 3, 640, 480) and (N, 640, 480)")


@pytest.mark.parametrize(
    "numbers", [[[0], [1]], [[4]], np.zeros((0, 1)), [[1.5]], [[np.nan]]], ids=["0", "4 of 3", "none", "half", "nan"]
)
def test_nyu_refuses_a_split_that_is_none(tmp_path, numbers):
    writers.write_nyu(tmp_path)
    savemat(tmp_path / "splits.mat", {"testNdxs": numbers})
    refuses(f"nyu:{tmp_path}", "'testNdxs' of", "are not numbers from 1 to 3")


def test_nyu_refuses_a_split_without_its_array(tmp_path):
    writers.write_nyu(tmp_path)
    savemat(tmp_path / "splits.mat", {"trainNdxs": [[1]]})
    refuses(f"nyu:{tmp_path}", "cannot read 'testNdxs'", "there is no such array")


# --- KITTI ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "raw", "annotated"),
    [("bts", "", ""), ("none", "raw", ""), ("monodepth", "raw", "data_depth_annotated")],
)
def test_kitti_takes_the_listed_frames_of_the_validation_drives(tmp_path, style, raw, annotated):
    truths = writers.write_kitti(tmp_path, raw=raw, annotated=annotated, style=style)
    dataset = open_dataset(f"kitti:{tmp_path}")
    assert dataset.names == [f"{DRIVE_VAL}/0000000069", f"{DRIVE_VAL}/0000000054"]
    for sample in dataset:
        check(sample, truths[sample.name])


@pytest.mark.parametrize("style", ["bts", "none", "monodepth"])
def test_kitti_metric_is_the_benchmarks_crop_of_both_folders(tmp_path, style):
    truths = writers.write_kitti(tmp_path, style=style)
    dataset = open_dataset(f"kitti-metric:{tmp_path}")
    assert dataset.names == [f"{DRIVE_VAL}/0000000069", f"{DRIVE_VAL}/0000000054", f"{DRIVE_TRAIN}/0000000016"]
    garg = np.zeros((375, 1242), bool)
    garg[153:371, 44:1197] = True
    for sample in dataset:
        truth = truths[sample.name]
        assert np.array_equal(sample.image, truth.image[23:, 13:1229])
        assert np.array_equal(sample.depth, truth.depth[23:, 13:1229])
        assert np.array_equal(sample.valid, (garg & (truth.depth > 0))[23:, 13:1229])


def test_kitti_measures_no_less_for_being_cut(tmp_path):
    """Garg's crop lies inside the benchmark's, at every size that KITTI's frames have."""
    for height, width in ((375, 1242), (370, 1224), (370, 1226), (374, 1238), (376, 1241)):
        top, left = height - KITTI_CROP.height, (width - KITTI_CROP.width) // 2
        rows, cols = evaluation_crop("garg", height, width)
        assert top <= rows.start < rows.stop <= height
        assert left <= cols.start < cols.stop <= left + KITTI_CROP.width


def test_kitti_refuses_a_drive_without_ground_truth(tmp_path):
    writers.write_kitti(tmp_path)
    (tmp_path / "train" / DRIVE_TRAIN).rename(tmp_path / "train" / "2011_09_26_drive_0011_sync")
    refuses(f"kitti-metric:{tmp_path}", "1 of 2 drives have no ground truth: " + DRIVE_TRAIN)
    assert len(open_dataset(f"kitti:{tmp_path}")) == 2  # it is not asked for there


def test_kitti_refuses_a_missing_raw_image(tmp_path):
    writers.write_kitti(tmp_path)
    (tmp_path / "2011_09_26" / DRIVE_VAL / "image_02/data/0000000054.png").unlink()
    refuses(f"kitti:{tmp_path}", "1 of 2 raw images are missing", f"{DRIVE_VAL}/image_02/data/0000000054.png")


def test_kitti_refuses_a_list_of_other_frames(tmp_path):
    writers.write_kitti(tmp_path)
    (tmp_path / EIGEN_LIST).write_text("2011_09_26/2011_09_26_drive_0048_sync 0000000001 l\n")
    refuses(f"kitti:{tmp_path}", "none of the 1 listed frames has ground truth under val")


@pytest.mark.parametrize("line", ["0000000069.png", "2011_09_26 2011_09_26_drive_0002_sync 1", "\udcff"])
def test_kitti_refuses_a_list_that_is_none(tmp_path, line):
    writers.write_kitti(tmp_path)
    content = f"\n2011_09_26/{DRIVE_VAL} 0000000069 l\n{line}\n".encode("utf-8", "surrogateescape")
    (tmp_path / EIGEN_LIST).write_bytes(content)
    refuses(f"kitti:{tmp_path}", EIGEN_LIST, "not a text file" if line == "\udcff" else "line 3 is malformed")


def _one_truth(root):
    return root / "val" / DRIVE_VAL / "proj_depth/groundtruth/image_02/0000000069.png"


def test_kitti_refuses_ground_truth_of_another_size(tmp_path):
    writers.write_kitti(tmp_path)
    writers.save(_one_truth(tmp_path), np.ones((375, 1241), np.uint16))
    refuses(f"kitti:{tmp_path}", f"{DRIVE_VAL}/0000000069", "the depth map is 375x1241, the image 375x1242")


def test_kitti_refuses_ground_truth_in_colour(tmp_path):
    writers.write_kitti(tmp_path)
    writers.save(_one_truth(tmp_path), writers.picture(0, 375, 1242))
    refuses(f"kitti:{tmp_path}", "has the mode 'RGB'", "expected one channel")


@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.99])
@pytest.mark.parametrize("what", ["image", "truth"])
def test_kitti_refuses_a_truncated_png(tmp_path, what, keep):
    writers.write_kitti(tmp_path)
    raw = tmp_path / "2011_09_26" / DRIVE_VAL / "image_02/data/0000000069.png"
    path = raw if what == "image" else _one_truth(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    refuses(f"kitti:{tmp_path}", f"{path} cannot be decoded")


def test_kitti_metric_refuses_resized_images(tmp_path):
    writers.write_kitti(tmp_path)
    raw = tmp_path / "2011_09_26" / DRIVE_VAL / "image_02/data/0000000069.png"
    for path, pixels in ((raw, writers.picture(0, 192, 640)), (_one_truth(tmp_path), np.ones((192, 640), np.uint16))):
        writers.save(path, pixels)
    refuses(f"kitti-metric:{tmp_path}", "the image is 192x640", "needs at least 352x1216")


# --- ETH3D ------------------------------------------------------------------------------------------------------------


def test_eth3d_reads_raw_floats(tmp_path):
    truths = writers.write_eth3d(tmp_path)
    (tmp_path / "courtyard/images/dslr_images/._DSC_0286.JPG").write_bytes(b"of a Mac")
    (tmp_path / "courtyard/images/dslr_images/Thumbs.db").write_bytes(b"of a PC")
    dataset = open_dataset(f"eth3d:{tmp_path}")
    assert dataset.names == sorted(truths)
    for sample in dataset:
        check(sample, truths[sample.name])


def test_eth3d_leaves_a_photograph_as_its_sensor_saw_it(tmp_path):
    """The ground truth is on the pixels of the file, whatever its EXIF orientation says."""
    truths = writers.write_eth3d(tmp_path)
    path = tmp_path / "courtyard/images/dslr_images/DSC_0286.JPG"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(writers.picture(0, 20, 30)).save(path, exif=exif)
    check(
        open_dataset(f"eth3d:{tmp_path}")[0], writers.Truth(writers.decoded(path), truths["courtyard/DSC_0286"].depth)
    )
    assert read_image(path).shape == (30, 20, 3)  # what a reader of photographs makes of it


@pytest.mark.parametrize("length", [0, 4 * 20 * 30 - 4, 4 * 20 * 30 + 4])
def test_eth3d_refuses_another_length(tmp_path, length):
    writers.write_eth3d(tmp_path)
    path = tmp_path / "courtyard/ground_truth_depth/dslr_images/DSC_0286.JPG"
    path.write_bytes(b"\0" * length)
    refuses(f"eth3d:{tmp_path}", f"{path} holds {length} bytes; an image of 20x30 needs 2400")


@pytest.mark.parametrize(
    ("which", "message"),
    [("ground_truth_depth", "1 of 3 has no ground truth"), ("images", "1 of 3 has no image")],
)
def test_eth3d_refuses_half_a_pair(tmp_path, which, message):
    writers.write_eth3d(tmp_path)
    (tmp_path / "courtyard" / which / "dslr_images/DSC_0287.JPG").unlink()
    refuses(f"eth3d:{tmp_path}", message, "courtyard/DSC_0287")


# --- Sintel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sintel", "sintel-clean"])
def test_sintel_reads_its_pass(tmp_path, name):
    truths = writers.write_sintel(tmp_path, "clean" if name == "sintel-clean" else "final")
    dataset = open_dataset(f"{name}:{tmp_path}")
    assert dataset.names == sorted(truths)
    for sample in dataset:
        check(sample, truths[sample.name])
    with pytest.raises(BadFileError, match=r"\(.png\): missing; .*3 found"):
        open_dataset(f"{'sintel' if name == 'sintel-clean' else 'sintel-clean'}:{tmp_path}")


GOOD = writers.dpt_bytes(np.ones((22, 34)))
BEGINNING = "does not begin with the header of a Sintel depth file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", BEGINNING),
        (GOOD[:11], BEGINNING),
        (b"PIEI" + GOOD[4:], BEGINNING),
        (struct.pack(">f", 202021.25) + GOOD[4:], BEGINNING),
        (GOOD[:4] + struct.pack("<ii", -34, -22) + GOOD[12:], BEGINNING),
        (GOOD[:4] + struct.pack("<ii", 0, 22), BEGINNING),
        (GOOD[:-1], "holds 2991 bytes of values; 34x22 needs 2992"),
        (GOOD + b"\0", "holds 2993 bytes of values; 34x22 needs 2992"),
        (GOOD[:4] + struct.pack("<ii", 2**30, 2**30) + GOOD[12:], "holds 2992 bytes of values"),
        (writers.dpt_bytes(np.ones((34, 22))), "the depth map is 34x22, the image 22x34"),
    ],
    ids=["empty", "cut header", "tag", "byte order", "negative", "zero", "short", "long", "huge", "turned"],
)
def test_sintel_refuses_a_file_of_another_kind(tmp_path, content, message):
    writers.write_sintel(tmp_path)
    (tmp_path / "training/depth/alley_1/frame_0001.dpt").write_bytes(content)
    refuses(f"sintel:{tmp_path}", "sintel sample 'alley_1/frame_0001'", message)


# --- TUM --------------------------------------------------------------------------------------------------------------


def test_tum_reads_the_papers_frames(tmp_path):
    truths = writers.write_tum_hdf5(tmp_path)
    dataset = open_dataset(f"tum:{tmp_path}")
    assert dataset.names == sorted(truths)
    for sample in dataset:
        check(sample, truths[sample.name])


@pytest.mark.parametrize(
    "image", [np.full((18, 24, 3), 200.0), np.full((18, 24), 0.5), np.full((18, 24, 3), np.nan)], ids=str
)
def test_tum_refuses_colours_of_another_kind(tmp_path, image):
    writers.write_tum_hdf5(tmp_path)
    with h5py.File(tmp_path / "sitting/2.jpg.h5", "r+") as file:
        del file["gt/img_1"]
        file["gt/img_1"] = image
    refuses(f"tum:{tmp_path}", "tum sample 'sitting/2.jpg'", "expected (H, W, 3) in 0..1")


def test_tum_refuses_an_array_that_would_fill_the_memory(tmp_path):
    """The file is small: HDF5 stores one value for chunks that were never written."""
    writers.write_tum_hdf5(tmp_path)
    with h5py.File(tmp_path / "sitting/2.jpg.h5", "r+") as file:
        del file["gt/gt_depth"]
        file.create_dataset("gt/gt_depth", (30000, 30000), "f4", compression="gzip", fillvalue=1.0)
    refuses(f"tum:{tmp_path}", "sitting/2.jpg.h5: gt/gt_depth has 3,600,000,000 bytes")


def test_tum_refuses_a_file_without_depth(tmp_path):
    writers.write_tum_hdf5(tmp_path)
    with h5py.File(tmp_path / "sitting/2.jpg.h5", "r+") as file:
        del file["gt/gt_depth"]
    refuses(f"tum:{tmp_path}", "cannot read", "gt_depth")


def test_tum_pairs_by_time(tmp_path):
    """b and y are the closest and go together; a, nearer to y than to x, is left with x; c is 20 ms from z."""
    colours, depths = {"a": 1.000, "b": 1.006, "c": 2.000, "d": 3.0}, {"x": 0.985, "y": 1.005, "z": 2.020, "w": 3.001}
    writers.write_tum_sequence(tmp_path / "seq", colours, depths)
    dataset = open_dataset(f"tum:{tmp_path}")
    assert dataset.names == ["seq/a", "seq/b", "seq/d"]
    for sample, (colour, depth) in zip(dataset, ((0, 0), (1, 1), (3, 3)), strict=True):
        check(sample, writers.Truth(writers.picture(colour, 18, 24), _of_5000(depth)))


def _of_5000(seed):
    return (writers.metres(seed, 18, 24) * 5000).astype(np.uint16).astype(np.float32) / np.float32(5000)


def test_tum_takes_a_sequence_itself_as_the_folder(tmp_path):
    writers.write_tum_sequence(tmp_path / "one seq", {"a": 1.0}, {"x": 1.0})
    assert open_dataset(f"tum:{tmp_path / 'one seq'}").names == ["one seq/a"]


def test_tum_takes_the_users_associations(tmp_path):
    writers.write_tum_sequence(tmp_path / "seq", {"a": 1.0, "b": 2.0}, {"x": 1.0, "y": 2.0})
    (tmp_path / "seq/associations.txt").write_text("# of mine\n2.0 rgb/b.png 1.0 depth/x.png\n")
    dataset = open_dataset(f"tum:{tmp_path}")
    assert dataset.names == ["seq/b"]
    check(dataset[0], writers.Truth(writers.picture(1, 18, 24), _of_5000(0)))


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("rgb.txt", "1.0", "rgb.txt line 1 is malformed: '1.0'"),
        ("depth.txt", "now depth/x.png", "depth.txt line 1 is malformed: 'now depth/x.png'"),
        ("associations.txt", "1.0 rgb/a.png", "associations.txt line 1 is malformed"),
        ("depth.txt", "", "no colour image has a depth map within 0.02 s"),
        ("depth.txt", "7.0 depth/x.png", "no colour image has a depth map within 0.02 s"),
    ],
)
def test_tum_refuses_lists_that_do_not_fit(tmp_path, name, line, message):
    writers.write_tum_sequence(tmp_path, {"a": 1.0}, {"x": 1.0})
    (tmp_path / name).write_text(line)
    refuses(f"tum:{tmp_path}", message)


def test_tum_refuses_a_sequence_without_its_depth_list(tmp_path):
    writers.write_tum_sequence(tmp_path, {"a": 1.0}, {"x": 1.0})
    (tmp_path / "depth.txt").unlink()
    refuses(f"tum:{tmp_path}", "cannot read", "depth.txt: No such file")
