"""The suite's own switch: skips name their reason, and ``--require`` turns them into failures."""

import shutil

import pytest

SUITE = """
import pytest

@pytest.mark.gpu
def test_on_a_gpu():
    pass

@pytest.mark.needs("numpy_of_mars")
def test_misspelt():
    pass

def test_anywhere():
    pass
"""
MARKERS = "[pytest]\nmarkers =\n  gpu: x\n  needs(*names): x\n"


@pytest.fixture
def suite(root, python, tmp_path):
    """Run the suite above, under a copy of the real conftest.py, where no driver's tool can be found."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text(MARKERS)
    shutil.copy(root / "tests/conftest.py", tmp_path)
    (tmp_path / "bin").mkdir()

    def run(*arguments):
        env = {"PATH": str(tmp_path / "bin"), "PYTHONPATH": str(root)}
        return python("-m", "pytest", "-ra", "-p", "no:cacheprovider", *arguments, cwd=tmp_path, env=env)

    return run


def test_what_is_missing_is_skipped_with_its_reason(suite):
    done = suite("-k", "gpu or anywhere")
    assert done.code == 0, done.out
    assert "1 passed, 1 skipped" in done.text
    assert "no NVIDIA GPU: nvidia-smi is not there or finds none" in done.text


def test_require_turns_the_skip_into_a_failure(suite):
    done = suite("-k", "gpu or anywhere", "--require", "gpu")
    assert done.code == 1
    assert "1 passed, 1 deselected, 1 error" in done.text
    assert "--require gpu: no NVIDIA GPU" in done.text


@pytest.mark.parametrize("arguments", [["-k", "misspelt"], ["--require", "gpus"]], ids=["marker", "option"])
def test_an_unknown_need_is_an_error(suite, arguments):
    done = suite(*arguments)
    assert done.code != 0
    assert "unknown need" in done.text


def test_the_header_names_the_machine(suite):
    done = suite("-k", "anywhere")
    assert "cores, GPU: none" in done.text
    assert "onnxruntime" in done.text
