"""Readers of ordered points and of label maps, and the paper's numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("PIL")

import cv2
from support import datasets as writers

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import zoo_names
from dpt_deploy.datasets.base import OrdinalPair
from dpt_deploy.datasets.paper import paper_table, paper_value
from dpt_deploy.datasets.pictures import read_map, read_rgb
from dpt_deploy.datasets.protocols import METRICS, PROTOCOLS
from dpt_deploy.datasets.registry import names, open_dataset


def refuses(spec, *messages):
    """Opening, or reading the first sample, fails with all of these."""
    with pytest.raises(BadFileError) as caught:
        open_dataset(spec)[0]
    assert [message for message in messages if message not in str(caught.value)] == []
    assert caught.value.hint


# --- image files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [60, 95])
def test_a_photograph_decodes_as_opencv_does_it(tmp_path, quality):
    """The original tools read with OpenCV; both decode with libjpeg-turbo."""
    skimage = pytest.importorskip("skimage.data")
    path = tmp_path / "a.jpg"
    writers.save(path, skimage.chelsea(), quality=quality)
    assert np.array_equal(read_rgb(path), cv2.imread(str(path))[..., ::-1])


def test_a_grey_photograph_becomes_colour(tmp_path):
    writers.save(tmp_path / "a.jpg", writers.picture(0, 20, 30)[..., 0])
    image = read_rgb(tmp_path / "a.jpg")
    assert image.shape == (20, 30, 3)
    assert np.ptp(image, axis=2).max() == 0


def test_a_map_keeps_16_bits(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(128, 512)
    writers.save(tmp_path / "a.png", values)
    assert np.array_equal(read_map(tmp_path / "a.png"), values)


def test_only_known_formats_reach_pillow(tmp_path):
    """Pillow starts Ghostscript on PostScript, which the name of a file hides."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n")
    with pytest.raises(BadFileError, match="not an image in a known format"):
        read_rgb(tmp_path / "a.png")


def test_a_large_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    writers.save(tmp_path / "a.png", writers.picture(0, 20, 30))
    monkeypatch.setenv("DPT_DEPLOY_MAX_IMAGE", "1799")
    with pytest.raises(BadFileError, match=r"1,800 bytes of pixels"):
        read_rgb(tmp_path / "a.png")
    monkeypatch.setenv("DPT_DEPLOY_MAX_IMAGE", "1800")
    assert read_rgb(tmp_path / "a.png").shape == (20, 30, 3)


# --- DIW --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "DIW_Annotations"])
def test_diw_reads_rows_before_columns_from_1(tmp_path, folder):
    """``>``: A (row 1, column 2 from 0) is farther away than B. ``<``: A (the last pixel) is nearer than B."""
    images = writers.write_diw(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "DIW_test.csv").rename(tmp_path / folder / "DIW_test.csv")
    first, second = open_dataset(f"diw:{tmp_path}")
    assert first.pairs == (OrdinalPair(far=(1, 2), near=(9, 19)),)
    assert second.pairs == (OrdinalPair(far=(0, 0), near=(19, 29)),)
    assert np.array_equal(first.image, images[0])
    assert first.name.endswith(".thumb")
    assert first.valid.all()


def test_diw_takes_a_list_with_absolute_paths(tmp_path):
    writers.write_diw(tmp_path)
    listed = tmp_path / "DIW_test.csv"
    listed.write_text(listed.read_text().replace("./DIW_test", str(tmp_path / "DIW_test")))
    assert len(list(open_dataset(f"diw:{tmp_path}"))) == 2


@pytest.mark.parametrize(
    "annotation",
    ["1,1,2,2,=,30,20", "1,1,2,2", "1,1,2,two,>,30,20", "1,-1,2,2,>,30,20", "1,1,2,2,,30,20", "./DIW_test/x.thumb"],
)
def test_diw_refuses_an_annotation_that_is_none(tmp_path, annotation):
    writers.write_diw(tmp_path, ("1,1,2,2,>,30,20", annotation))
    refuses(f"diw:{tmp_path}", "DIW_test.csv has a line that is malformed", annotation)


@pytest.mark.parametrize("annotation", ["21,1,2,2,>,30,20", "1,1,2,31,>,30,20", "0,1,2,2,>,30,20"])
def test_diw_refuses_a_point_outside_its_image(tmp_path, annotation):
    writers.write_diw(tmp_path, (annotation,))
    refuses(f"diw:{tmp_path}", "diw sample './DIW_test/", "lies outside the image of 20x30")


@pytest.mark.parametrize("keep", [0, 3])
def test_diw_refuses_a_list_of_odd_length(tmp_path, keep):
    writers.write_diw(tmp_path)
    listed = tmp_path / "DIW_test.csv"
    listed.write_text("\n".join(listed.read_text().splitlines()[:keep]))
    refuses(f"diw:{tmp_path}", f"DIW_test.csv has {keep} lines; expected two for each image")


def test_diw_refuses_a_folder_without_its_images(tmp_path):
    writers.write_diw(tmp_path)
    (tmp_path / "DIW_test").rename(tmp_path / "images")
    refuses(f"diw:{tmp_path}", "DIW_test.csv: found", ".thumb: missing", "it holds DIW_test.csv, images/")


# --- ADE20K, Pascal Context -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ade20k", "pascal-context"])
def test_labels_are_1_based_and_0_is_not_valid(tmp_path, name):
    found = writers.WRITERS[name](tmp_path)
    dataset = open_dataset(f"{name}:{tmp_path}")
    assert dataset.names == sorted(found)
    for sample in dataset:
        image, labels = found[sample.name]
        assert np.array_equal(sample.image, image)
        assert np.array_equal(sample.labels, labels)
        assert np.array_equal(sample.valid, labels > 0)
        assert sample.labels.max() == dataset.protocol.classes


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ade20k", "annotations/validation/ADE_val_00000001.png"),
        ("pascal-context", "SegmentationClassContext/2008_000002.png"),
    ],
)
def test_labels_of_another_kind_are_refused(tmp_path, name, path):
    writers.WRITERS[name](tmp_path)
    classes = PROTOCOLS[name].classes
    for pixels, message in (
        (np.full((20, 30), classes + 1, np.uint8), f"holds the label {classes + 1}; there are {classes} classes"),
        (np.ones((20, 31), np.uint8), "the label map is 20x31, the image 20x30"),
        (writers.picture(0, 20, 30), "has the mode 'RGB'"),
    ):
        writers.save(tmp_path / path, pixels)
        refuses(f"{name}:{tmp_path}", message)
    (tmp_path / path).write_bytes((tmp_path / path).read_bytes()[:-100])
    refuses(f"{name}:{tmp_path}", "cannot be decoded")


def test_ade20k_refuses_half_a_pair(tmp_path):
    writers.write_ade20k(tmp_path)
    (tmp_path / "annotations/validation/ADE_val_00000002.png").unlink()
    refuses(f"ade20k:{tmp_path}", "1 of 2 has no ground truth: ADE_val_00000002")


def test_pascal_context_refuses_a_listed_image_that_is_missing(tmp_path):
    writers.write_pascal_context(tmp_path)
    (tmp_path / "JPEGImages/2008_000003.jpg").unlink()
    refuses(f"pascal-context:{tmp_path}", "1 of 4 listed files are missing: JPEGImages/2008_000003.jpg")


def test_pascal_context_refuses_an_empty_list(tmp_path):
    writers.write_pascal_context(tmp_path)
    (tmp_path / "ImageSets/SegmentationContext/val.txt").write_text("\n")
    refuses(f"pascal-context:{tmp_path}", "val.txt is empty")


# --- the paper --------------------------------------------------------------------------------------------------------


def test_the_paper_has_numbers_of_every_protocol_but_one():
    """It names no pass of Sintel; ``sintel-clean`` is there to look."""
    for name in set(names()) - {"sintel-clean"}:
        table = paper_table(name)
        assert PROTOCOLS[name].metric in next(iter(table.values.values()))
        assert {metric for row in [*table.values.values(), *table.released.values()] for metric in row} <= set(METRICS)
        assert table.table in range(1, 6)
        assert table.caption
        assert table.notes
    with pytest.raises(UsageError, match="no numbers for 'sintel-clean'") as caught:
        paper_table("sintel-clean")
    assert "kitti-metric" in caught.value.hint


def test_models_of_the_zoo_go_by_their_names():
    found = {model for name in set(names()) - {"sintel-clean"} for model in paper_table(name).values}
    assert found & set(zoo_names()) == {"large", "hybrid", "midas-v21", "hybrid-nyu", "hybrid-kitti"}


def test_percent_and_shares_look_like_it():
    for name in set(names()) - {"sintel-clean"}:
        table = paper_table(name)
        for row in (*table.values.values(), *table.released.values()):
            for metric, value in row.items():
                assert (value > 4) == METRICS[metric].percent


@pytest.mark.parametrize("model", ["large", "hybrid"])
def test_the_means_of_table_1_are_the_claims_of_the_abstract(model):
    """28 % (large) and 23 % (hybrid) better than MiDaS, MIX 5, over the six sets: no number is far from what it is."""
    changes = []
    for name in ("diw", "eth3d", "sintel", "kitti", "nyu", "tum"):
        rows = paper_table(name).values
        (ours,), (theirs,) = rows[model].values(), rows["MiDaS, MIX 5"].values()
        changes.append(100 * (ours / theirs - 1))
    assert round(np.mean(changes)) == {"large": -28, "hybrid": -23}[model]


def test_paper_value():
    found = paper_value("nyu", "large", "delta1_error")
    assert (found.value, found.metric, found.table) == (8.32, "delta1_error", 1)
    assert paper_value("ade20k", "hybrid", "mean_iou").value == 49.02
    assert "multi-scale" in paper_value("ade20k", "hybrid", "mean_iou").notes
    assert paper_value("nyu", "base", "delta1_error") is None  # no such checkpoint was published
    assert paper_value("nyu", "large", "rmse") is None
    assert paper_table("kitti-metric").released["hybrid-kitti"]["silog"] == 8.282
    with pytest.raises(UsageError, match="no numbers for 'diode'"):
        paper_value("diode", "large", "abs_rel")
