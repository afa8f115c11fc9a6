"""Opening data sets: names, whole and partial folders, laziness, and going on past what cannot be read."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("h5py", reason="h5py is not installed: pip install -e '.[study]'")
pytest.importorskip("scipy", reason="scipy is not installed: pip install -e '.[study]'")

from support.datasets import WRITERS, write_nyu, write_sintel

from dpt_deploy.core.errors import BadFileError, MissingExtraError, UsageError
from dpt_deploy.datasets import pictures
from dpt_deploy.datasets.protocols import PROTOCOLS
from dpt_deploy.datasets.registry import names, open_dataset

EVERY = sorted(WRITERS)


def test_every_name_has_a_protocol_and_a_writer():
    assert names() == sorted(PROTOCOLS) == EVERY


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("folder", ["plain", "with space", "ümläut-数据", "[0-9]*?"])
def test_a_whole_folder_reads(tmp_path, name, folder):
    WRITERS[name](tmp_path / folder)
    dataset = open_dataset(f"{name}:{tmp_path / folder}")
    assert dataset.name == name
    assert dataset.protocol == PROTOCOLS[name]
    assert len(dataset) == len(dataset.names) > 0
    for sample, expected in zip(dataset, dataset.names, strict=True):
        assert sample.name == expected
        assert (sample.image.dtype, sample.image.ndim, sample.image.shape[2]) == (np.uint8, 3, 3)
        assert (sample.valid.dtype, sample.valid.shape) == (bool, sample.image.shape[:2])
        assert sample.valid.any()
        assert [sample.depth is None, sample.labels is None, sample.pairs is None].count(False) == 1


@pytest.mark.parametrize("name", EVERY)
def test_a_sample_reads_alike_twice(tmp_path, name):
    WRITERS[name](tmp_path)
    dataset = open_dataset(f"{name}:{tmp_path}")
    for one, other in ((dataset[0], dataset[0]), (dataset[-1], dataset[len(dataset) - 1])):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.valid, other.valid)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("spec", ["nyu", "nyu:", "", "/a/folder"])
def test_what_is_not_a_name_and_a_folder_is_refused(spec):
    with pytest.raises(UsageError, match="expected NAME:DIR"):
        open_dataset(spec)


def test_an_unknown_name_lists_all_names(tmp_path):
    with pytest.raises(UsageError, match="'nyuv2'") as caught:
        open_dataset(f"nyuv2:{tmp_path}")
    assert all(name in caught.value.hint for name in EVERY)


def test_a_colon_in_the_folder_is_part_of_it(tmp_path):
    write_sintel(tmp_path / "a:b")
    assert len(open_dataset(f"sintel:{tmp_path / 'a:b'}")) == 3


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_folder_is_named(tmp_path, name):
    with pytest.raises(BadFileError, match=r"cannot read the folder .*nowhere: No such file"):
        open_dataset(f"{name}:{tmp_path / 'nowhere'}")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadFileError, match="Not a directory"):
        open_dataset(f"nyu:{tmp_path / 'file'}")


# What the message about an empty folder says was looked for.
LOOKED_FOR = {
    "nyu": ["nyu_depth_v2_labeled.mat: missing", "splits.mat: missing"],
    "nyu-metric": ["nyu_depth_v2_labeled.mat: missing", "splits.mat: missing"],
    "kitti": ["eigen_test_files_with_gt.txt or ", "val or data_depth_annotated/val: missing"],
    "kitti-metric": ["val or data_depth_annotated/val: missing", "train or data_depth_annotated/train: missing"],
    "eth3d": ["*/images/dslr_images/* (.jpg, .png): missing", "*/ground_truth_depth/dslr_images/* "],
    "sintel": ["training/final/*/* (.png): missing", "training/depth/*/* (.dpt): missing"],
    "sintel-clean": ["training/clean/*/* (.png): missing"],
    "tum": ["rgb.txt or */rgb.txt (.txt): missing", "**/* (.h5): missing"],
    "diw": ["DIW_test.csv or DIW_Annotations/DIW_test.csv: missing"],
    "ade20k": ["images/validation/* (.jpg): missing", "annotations/validation/* (.png): missing"],
    "pascal-context": ["ImageSets/SegmentationContext/val.txt: missing", "JPEGImages: missing"],
}


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_folder_reports_what_was_searched(tmp_path, name):
    with pytest.raises(BadFileError, match="it holds nothing") as caught:
        open_dataset(f"{name}:{tmp_path}")
    assert [part for part in LOOKED_FOR[name] if part not in str(caught.value)] == []
    assert str(tmp_path) in str(caught.value)
    assert caught.value.hint


def test_a_partial_folder_reports_what_was_found(tmp_path):
    write_nyu(tmp_path)
    (tmp_path / "splits.mat").rename(tmp_path / "splits (1).mat")
    for number in range(6):
        (tmp_path / f"z{number}").mkdir()
    with pytest.raises(BadFileError) as caught:
        open_dataset(f"nyu:{tmp_path}")
    assert "nyu_depth_v2_labeled.mat: found; splits.mat: missing" in str(caught.value)
    assert "it holds nyu_depth_v2_labeled.mat, splits (1).mat, z0/, z1/, z2/, and 3 more" in str(caught.value)


def test_a_damaged_sample_is_named_and_the_rest_goes_on(tmp_path):
    write_sintel(tmp_path)
    damaged = tmp_path / "training/depth/alley_1/frame_0002.dpt"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    dataset = open_dataset(f"sintel:{tmp_path}")
    with pytest.raises(BadFileError) as caught:
        dataset[1]
    assert str(caught.value).startswith("sintel sample 'alley_1/frame_0002': ")
    assert caught.value.hint
    assert [dataset[index].name for index in (0, 2)] == ["alley_1/frame_0001", "ambush_2/frame_0001"]
    with pytest.raises(BadFileError, match="alley_1/frame_0002"):
        list(dataset)


def test_an_error_that_is_no_file_error_stays_loud(tmp_path, monkeypatch):
    write_sintel(tmp_path)
    dataset = open_dataset(f"sintel:{tmp_path}")
    monkeypatch.setattr("dpt_deploy.datasets.paired.read_rgb", lambda _path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(iter(dataset))


def test_opening_reads_no_image(tmp_path, monkeypatch):
    for name in EVERY:
        WRITERS[name](tmp_path / name)
    monkeypatch.setattr(pictures, "_loaded", lambda _path: pytest.fail("an image was read"))
    assert all(len(open_dataset(f"{name}:{tmp_path / name}")) for name in EVERY)


@pytest.mark.parametrize("name", ["nyu", "kitti", "sintel"])
def test_memory_does_not_grow_with_the_set(tmp_path, name):
    """Two passes over the samples peak where one does."""
    WRITERS[name](tmp_path)
    dataset = open_dataset(f"{name}:{tmp_path}")

    def peak(passes):
        tracemalloc.start()
        for _ in range(passes):
            for sample in dataset:
                assert sample.image.size
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # imports, caches
    assert peak(3) < 1.1 * peak(1) + 100_000


@pytest.mark.parametrize(("name", "module"), [("nyu", "h5py"), ("tum", "h5py")])
def test_a_missing_library_is_one_line(tmp_path, monkeypatch, name, module):
    WRITERS[name](tmp_path)

    def refuse(wanted):
        if wanted == module:
            raise ModuleNotFoundError(f"No module named {wanted!r}", name=wanted)
        return __import__("importlib").import_module(wanted)

    monkeypatch.setattr("dpt_deploy.datasets.hdf5.import_module", refuse)
    with pytest.raises(MissingExtraError, match=module) as caught:
        list(open_dataset(f"{name}:{tmp_path}"))
    assert ".[study]" in caught.value.hint
