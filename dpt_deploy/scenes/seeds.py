"""Ranges of scene numbers by purpose: the one place that says which scenes belong to what.

A scene is rendered from its number alone. Two purposes that shared a number would share an image, and a study would
measure a network on what it was trained or calibrated on. Every range here is disjoint from every other one,
which a test holds.
"""

from __future__ import annotations

from collections.abc import Mapping

TRAINING = range(1_000_000)
STUDIES = range(1_000_000, 2_000_000)  # ``study --seed N`` begins with the N-th of them
VALIDATION = range(2_000_000, 3_000_000)  # scores a training
CALIBRATION = range(4_000_000, 4_100_000)  # sets the ranges of quantised tensors
CALIBRATION_SCENES, CALIBRATION_SIDE = 24, 768  # rendered by default, and their side in pixels
ACCURACY = range(4_100_000, 4_150_000)  # compares a quantised export with FP32
ACCURACY_SEARCH = range(4_150_000, 4_200_000)  # chooses the blocks that an error budget leaves unquantised
PARITY = range(4_200_000, 4_300_000)  # compares the outputs of quantised graphs

PURPOSES: Mapping[str, range] = {
    "training": TRAINING,
    "studies": STUDIES,
    "validation": VALIDATION,
    "calibration": CALIBRATION,
    "accuracy": ACCURACY,
    "accuracy search": ACCURACY_SEARCH,
    "parity": PARITY,
}
