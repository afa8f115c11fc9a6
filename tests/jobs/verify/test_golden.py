"""Golden files hold images and one array for each output; a damaged one is refused."""

from dataclasses import replace

import numpy as np
import pytest
from support.faults.handmade import SIDECAR

from dpt_deploy.artifact.records import Shapes
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.verify.golden import golden_arrays, golden_size, read_golden

pytestmark = pytest.mark.fast

IMAGES = np.zeros((2, 64, 96, 3), np.uint8)
DEPTH = np.ones((2, 64, 96), np.float32)
(OUTPUT,) = SIDECAR.outputs
OTHER = replace(OUTPUT, name="confidence")


def saved(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "golden.npz", **arrays)
    return tmp_path / "golden.npz"


@pytest.mark.parametrize("outputs", [(OUTPUT,), (OUTPUT, OTHER)], ids=["one", "two"])
def test_golden_tensors_come_back_by_the_names_of_their_outputs(outputs, tmp_path):
    values = {output.name: DEPTH + index for index, output in enumerate(outputs)}
    images, found = read_golden(saved(tmp_path, **golden_arrays(IMAGES, values)), outputs)
    np.testing.assert_array_equal(images, IMAGES)
    assert list(found) == list(values)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_array_of_a_single_output_is_called_output():
    assert list(golden_arrays(IMAGES, {OUTPUT.name: DEPTH})) == ["images", "output"]


@pytest.mark.parametrize("missing", ["images", "output"])
def test_a_golden_file_without_an_array_is_refused(missing, tmp_path):
    arrays = golden_arrays(IMAGES, {OUTPUT.name: DEPTH})
    del arrays[missing]
    with pytest.raises(BadFileError, match=r"golden tensors .* cannot be read"):
        read_golden(saved(tmp_path, **arrays), (OUTPUT,))


def test_what_is_no_golden_file_is_refused(tmp_path):
    (tmp_path / "golden.npz").write_bytes(b"PK not really")
    with pytest.raises(BadFileError, match="cannot be read"):
        read_golden(tmp_path / "golden.npz", (OUTPUT,))


def test_golden_tensors_are_small_and_not_square_or_of_the_static_size():
    assert golden_size(SIDECAR) == (2, Size(96, 128))
    assert golden_size(replace(SIDECAR, shapes=Shapes(32, (64, 64)))) == (1, Size(64, 64))
    assert golden_size(replace(SIDECAR, shapes=Shapes(32, (64, 64), any_batch=True))) == (2, Size(64, 64))


@pytest.mark.parametrize("fits", [False, True])
def test_golden_tensors_above_the_limit_are_refused_before_they_are_unpacked(fits, tmp_path, monkeypatch):
    path = saved(tmp_path, **golden_arrays(IMAGES, {OUTPUT.name: DEPTH}))
    needed = IMAGES.nbytes + DEPTH.nbytes
    monkeypatch.setenv("DPT_DEPLOY_MAX_GOLDEN", str(needed + 1000 if fits else needed - 1))
    if fits:
        read_golden(path, (OUTPUT,))
        return
    monkeypatch.setattr(np, "load", lambda *_args, **_options: pytest.fail("it was unpacked"))
    with pytest.raises(BadFileError, match="at most") as caught:
        read_golden(path, (OUTPUT,))
    assert "DPT_DEPLOY_MAX_GOLDEN" in caught.value.hint
