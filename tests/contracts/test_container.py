"""The container file uses commands and files that exist. No test builds it: that needs a daemon."""

import re

import pytest


@pytest.mark.fast
def test_the_container_file_uses_targets_and_files_that_exist(root):
    text = (root / "tools/docker/Dockerfile").read_text()
    made = re.search(r"RUN make (.+)", text).group(1).split()
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert set(made) <= targets
    extras = re.search(r"'\.\[(.+?)\]'", text).group(1).split(",")
    assert set(extras) <= set(re.findall(r"^([a-z]+) = \[", (root / "pyproject.toml").read_text(), re.MULTILINE))
    assert (root / re.search(r"-c (\S+)", text).group(1)).is_file()
