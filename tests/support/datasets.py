"""Writers of tiny data sets, byte for byte in the formats of the real ones, for the readers to be tried on.

Each ``write_*`` makes a whole folder and returns what it holds, so that a test compares with what was written. Shapes
are not square, values differ everywhere, and every map has a hole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

DRIVE_VAL, DRIVE_TRAIN = "2011_09_26_drive_0002_sync", "2011_09_26_drive_0009_sync"
EIGEN_LIST = "eigen_test_files_with_gt.txt"


@dataclass(frozen=True)
class Truth:
    """Values that one sample was written with."""

    image: np.ndarray
    depth: np.ndarray


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def metres(seed: int, height: int, width: int, far: float = 9.0) -> np.ndarray:
    """Depth from 0.5 m to ``far`` in whole 1/256 m, with a hole (0) in the first row."""
    depth = np.random.default_rng(seed).integers(128, int(far * 256), (height, width)).astype(np.float32) / 256
    depth[0, 1] = 0.0
    return depth


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    """An image file: PNG (quick to write) by its suffix, else JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix == ".png" else "JPEG"
    Image.fromarray(pixels).save(path, kind, compress_level=0, **options)


def decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


# --- NYU --------------------------------------------------------------------------------------------------------------


def write_nyu(root: Path, *, count: int = 3, test: tuple[int, ...] = (3, 1)) -> list[Truth]:
    """``count`` images, the test split (1-based) second; returns those of the split, in its order."""
    import h5py  # noqa: PLC0415  (the tests that need it skip without)
    from scipy.io import savemat  # noqa: PLC0415  (likewise)

    truths = [Truth(picture(i, 480, 640), metres(i, 480, 640)) for i in range(count)]
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:  # MATLAB's header stands there
        file["images"] = np.stack([truth.image.transpose(2, 1, 0) for truth in truths])
        file["rawDepths"] = np.stack([truth.depth.T for truth in truths])
    savemat(root / "splits.mat", {"testNdxs": np.array(test)[:, None], "trainNdxs": np.array([[2]])})
    return [truths[number - 1] for number in test]


# --- KITTI ------------------------------------------------------------------------------------------------------------


def write_kitti(root: Path, *, raw: str = "", annotated: str = "", style: str = "bts") -> dict[str, Truth]:
    """Two frames of a validation drive, one of a training drive, and one listed frame without ground truth."""
    frames = {(DRIVE_VAL, "0000000069"): "val", (DRIVE_VAL, "0000000054"): "val", (DRIVE_TRAIN, "0000000016"): "train"}
    truths, lines = {}, []
    for seed, ((drive, number), split) in enumerate(frames.items()):
        truth = Truth(picture(seed, 375, 1242), metres(seed, 375, 1242, far=79.0))
        save(root / raw / drive[:10] / drive / "image_02/data" / f"{number}.png", truth.image)
        depth = (truth.depth * 256).astype(np.uint16)
        save(root / annotated / split / drive / "proj_depth/groundtruth/image_02" / f"{number}.png", depth)
        truths[f"{drive}/{number}"] = truth
        lines.append(_listed(drive, number, style))
    lines.append(_listed(DRIVE_TRAIN, "0000000000", style))
    (root / EIGEN_LIST).write_text("\n".join([*lines, ""]), encoding="utf-8")
    return truths


def _listed(drive: str, number: str, style: str) -> str:
    if style == "monodepth":
        return f"{drive[:10]}/{drive} {number} l"
    truth = f"{drive}/proj_depth/groundtruth/image_02/{number}.png"
    absent = style == "none" and number == "0000000000"
    return f"{drive[:10]}/{drive}/image_02/data/{number}.png {'None' if absent else truth} 721.5377"


# --- ETH3D, Sintel ----------------------------------------------------------------------------------------------------


def write_eth3d(root: Path) -> dict[str, Truth]:
    truths = {}
    for seed, name in enumerate(("courtyard/DSC_0286", "courtyard/DSC_0287", "relief 2/DSC_0427")):
        scene, stem = name.split("/")
        photograph = root / scene / "images/dslr_images" / f"{stem}.JPG"
        save(photograph, picture(seed, 20, 30), quality=90)
        depth = metres(seed, 20, 30)
        raw = root / scene / "ground_truth_depth/dslr_images" / f"{stem}.JPG"
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_bytes(np.where(depth > 0, depth, np.inf).astype("<f4").tobytes())
        truths[name] = Truth(decoded(photograph), depth)
    return truths


def dpt_bytes(depth: np.ndarray) -> bytes:
    height, width = depth.shape
    return struct.pack("<fii", 202021.25, width, height) + depth.astype("<f4").tobytes()


def write_sintel(root: Path, render: str = "final") -> dict[str, Truth]:
    truths = {}
    for seed, name in enumerate(("alley_1/frame_0001", "alley_1/frame_0002", "ambush_2/frame_0001")):
        truth = Truth(picture(seed, 22, 34), metres(seed, 22, 34, far=120.0))
        save(root / "training" / render / f"{name}.png", truth.image)
        path = root / "training/depth" / f"{name}.dpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dpt_bytes(truth.depth))
        truths[name] = truth
    return truths


# --- TUM --------------------------------------------------------------------------------------------------------------


def write_tum_hdf5(root: Path) -> dict[str, Truth]:
    import h5py  # noqa: PLC0415  (the tests that need it skip without)

    truths = {}
    for seed, name in enumerate(("walking/1.jpg", "sitting/2.jpg")):
        truth = Truth(picture(seed, 18, 24), metres(seed, 18, 24))
        path = root / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["gt/img_1"] = truth.image.astype(np.float32) / 255
            file["gt/gt_depth"] = truth.depth
        truths[name] = truth
    return truths


def write_tum_sequence(folder: Path, colours: dict[str, float], depths: dict[str, float]) -> None:
    """A sequence of files with these names and times; the number of a file is the seed of what it shows."""
    for kind, times in (("rgb", colours), ("depth", depths)):
        lines = ["# timestamp filename"]
        for seed, (stem, time) in enumerate(times.items()):
            depth = (metres(seed, 18, 24) * 5000).astype(np.uint16)
            save(folder / kind / f"{stem}.png", picture(seed, 18, 24) if kind == "rgb" else depth)
            lines.append(f"{time:.6f} {kind}/{stem}.png")
        (folder / f"{kind}.txt").write_text("\n".join(lines), encoding="utf-8")


# --- DIW, ADE20K, Pascal Context --------------------------------------------------------------------------------------


def write_diw(
    root: Path, annotations: tuple[str, ...] = ("2,3,10,20,>,30,20", "20,30,1,1,<,30,20")
) -> list[np.ndarray]:
    """Images of 20 x 30 with these annotations."""
    lines, images = [], []
    for seed, annotation in enumerate(annotations):
        name = f"./DIW_test/{seed:032x}.thumb"
        save(root / name, picture(seed, 20, 30))
        images.append(decoded(root / name))
        lines += [name, annotation]
    (root / "DIW_test.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return images


def label_map(seed: int, classes: int) -> np.ndarray:
    """Labels 0..``classes`` of 20 x 30, the last class among them."""
    labels = np.random.default_rng(seed).integers(0, classes + 1, (20, 30)).astype(np.uint8)
    labels[0, :2] = 0, classes
    return labels


def write_ade20k(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns image and labels by name."""
    found = {}
    for seed in range(2):
        name = f"ADE_val_{seed + 1:08d}"
        photograph = root / "images/validation" / f"{name}.jpg"
        save(photograph, picture(seed, 20, 30))
        save(root / "annotations/validation" / f"{name}.png", label_map(seed, 150))
        found[name] = decoded(photograph), label_map(seed, 150)
    return found


def write_pascal_context(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label maps with a palette, as the converter writes them; one more image than is listed."""
    found = {}
    for seed, name in enumerate(("2008_000002", "2008_000003", "2008_000009")):
        photograph, labels = root / "JPEGImages" / f"{name}.jpg", label_map(seed, 59)
        save(photograph, picture(seed, 20, 30))
        image = Image.fromarray(labels)
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
        path = root / "SegmentationClassContext" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        found[name] = decoded(photograph), labels
    listed = root / "ImageSets/SegmentationContext/val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("2008_000002\n2008_000003\n", encoding="utf-8")
    del found["2008_000009"]
    return found


WRITERS = {
    "nyu": write_nyu,
    "nyu-metric": write_nyu,
    "kitti": write_kitti,
    "kitti-metric": write_kitti,
    "eth3d": write_eth3d,
    "sintel": write_sintel,
    "sintel-clean": lambda root: write_sintel(root, "clean"),
    "tum": write_tum_hdf5,
    "diw": write_diw,
    "ade20k": write_ade20k,
    "pascal-context": write_pascal_context,
}
