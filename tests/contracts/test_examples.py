"""The examples run as they stand."""

import subprocess
import sys

import numpy as np
import pytest
from support.tiny import exported

PHOTOGRAPH = "dpt_deploy/data/photographs/coffee.jpg"
FILM = "tests/support/videos/trunc_faststart.mp4"


def example(root, name, *arguments):
    """Standard output of an example."""
    command = [sys.executable, str(root / "docs/examples" / name), *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.needs("onnxruntime", "cv2", "torch")
def test_every_example_runs(root, tmp_path):
    model = exported("tiny-vit").path
    example(root, "depth_of_a_photo.py", model, root / PHOTOGRAPH, tmp_path / "depth")
    depth = np.load(tmp_path / "depth.npy")
    assert depth.shape == (400, 600)
    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")
    assert "frame 0: " in example(root, "video_frames.py", model, root / FILM)
    assert example(root, "finetune.py", tmp_path / "weights.safetensors").count("loss ") == 3
    assert (tmp_path / "weights.safetensors").stat().st_size > 1e6
    names = {path.name for path in (root / "docs/examples").glob("*.py")}
    assert names == {"depth_of_a_photo.py", "video_frames.py", "finetune.py"}  # a new one is run here, too
