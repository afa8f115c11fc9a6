"""Readers of files on mutations of valid ones: each is read, or refused by an error of this program.

``make test`` tries :data:`CASES`; ``DPT_FUZZ_CASES=2000`` tries so many of each reader (``make fuzz``).
"""

import os

import pytest

CASES = {
    "sidecar": 40,
    "sidecar-run": 8,
    "recipe": 60,
    "recipe-hybrid": 30,
    "recipe-cnn": 30,
    "training": 60,
    "onnx": 20,
    "safetensors": 40,
    "huggingface": 40,
    "torch": 20,
    "torch-legacy": 10,
    "golden": 40,
    "png": 30,
    "jpeg": 20,
    "video": 20,
    "study": 40,
    "baseline": 40,
    "journal": 30,
    "intrinsics": 40,
    "bag": 20,
    "bag-compressed": 20,
    "mcap": 20,
}
START = int(os.environ.get("DPT_FUZZ_START", "0"))
ASKED = int(os.environ.get("DPT_FUZZ_CASES", "0"))


@pytest.mark.needs("torch", "onnxruntime", "cv2", "rosbags")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_no_mutation_of_a_file_is_a_traceback(name, tmp_path):
    from support.faults.readers import attempt  # noqa: PLC0415  imports everything that reads

    found = []
    for number in range(START, START + (ASKED or CASES[name])):
        folder = tmp_path / str(number)
        folder.mkdir()
        found += filter(None, [attempt(name, number, folder)])
    assert not found, "\n".join(found)


@pytest.mark.needs("torch", "onnxruntime", "cv2", "rosbags")
def test_a_defect_is_found_and_named_with_the_way_to_repeat_it(tmp_path, monkeypatch):
    from support.faults import readers  # noqa: PLC0415

    def defect(path):
        raise KeyError(path.name)

    broken = readers.Reader(lambda: b"{}x", readers.mutated_bytes, defect, "x.json")
    monkeypatch.setitem(readers.READERS, "broken", broken)
    assert "support.faults.readers broken 7" in readers.attempt("broken", 7, tmp_path)


def test_there_are_enough_cases():
    assert sum(CASES.values()) >= 500
