"""The tutorial works: its commands and its Python code run in order, in one empty folder."""

import re
import shlex
import subprocess

import pytest

from dpt_deploy.cli import call

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("cp", "mkdir")


def run_line(line, folder):
    """Run one line of a shell block: our own command in this process, a few others by themselves."""
    words = shlex.split(line)
    if words[0] == "dpt-deploy":
        assert call(words[1:]) == 0, line
    elif words[0] in SHELL:
        subprocess.run(words, cwd=folder, check=True)
    else:
        raise ValueError(f"a tutorial line that the test cannot run: {line}")


def run_blocks(text, folder):
    """Run every ``sh`` and ``python`` block of a page; return how many there were."""
    blocks = BLOCK.findall(text)
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "tutorial", "exec"), {})
        else:
            for line in block.splitlines():
                run_line(line, folder)
    return len(blocks)


@pytest.fixture
def folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dpt_deploy").symlink_to(root / "dpt_deploy")
    return tmp_path


@pytest.mark.needs("torch", "onnx", "onnxruntime", "cv2")
def test_the_tutorial_runs(root, folder):
    assert run_blocks((root / "docs/tutorial.md").read_text(), folder) >= 6
    assert (folder / "depth.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "depth.pfm").read_bytes().startswith(b"Pf")


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ("```sh\ndpt-deploy inspect nothing.onnx\n```\n", AssertionError),
        ("```sh\ncurl x\n```\n", ValueError),
        ("```python\nimport dpt_deploy\ndpt_deploy.nothing\n```\n", AttributeError),
    ],
    ids=["command", "unknown program", "python"],
)
def test_a_tutorial_that_fails_is_noticed(folder, block, error):
    with pytest.raises(error):
        run_blocks(block, folder)
