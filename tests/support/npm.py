"""Packages of npm, installed once into build/npm/ if DPT_APT=1 allows it; tests that need them are skipped else."""

import fcntl
import json
import os
import shutil
import subprocess

import pytest
from support.paths import ROOT

PACKAGES = {"@huggingface/transformers": "4.3.2", "onnxruntime-web": "1.30.0"}
FOLDER = ROOT / "build/npm"


def npm_folder():
    """The folder that has ``node_modules``; skips the test, with the reason, where there is none."""
    if not shutil.which("node"):
        pytest.skip("Node.js is not installed (Debian: nodejs npm)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(map(_installed, PACKAGES)):
            if os.environ.get("DPT_APT") != "1":
                pytest.skip("packages of npm are not installed: DPT_APT=1 lets the test do so")
            wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
            # Scripts would fetch GPU libraries that no test needs.
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(FOLDER)]
            subprocess.run([*command, *wanted], check=True, capture_output=True, timeout=300)
    return FOLDER


def _installed(name):
    path = FOLDER / "node_modules" / name / "package.json"
    return path.is_file() and json.loads(path.read_text())["version"] == PACKAGES[name]
