"""Candidate ``hf-openvino-nncf`` of benchmarks: the plain export, quantised by NNCF as OpenVINO's users would.

NNCF is no extra of this package: install it where the candidate is wanted (``pip install nncf``).
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.core.errors import MissingExtraError
from dpt_deploy.core.optional import extra

with extra("openvino", purpose="the candidate hf-openvino-nncf"):
    import openvino


def quantise_plain(plain: Path, images: np.ndarray) -> Path:
    """Quantise the file ``plain`` with NNCF's settings for transformers, and return OpenVINO's file next to it.

    ``images`` (N, B, 3, H, W) calibrate it. A handful is enough: time does not depend on where ranges end.

    Raises:
        MissingExtraError: NNCF is not installed.
    """
    nncf = _nncf()
    dataset = nncf.Dataset(list(images))
    model = nncf.quantize(
        openvino.Core().read_model(str(plain)),
        dataset,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(images),
    )
    target = plain.with_name("nncf.xml")
    openvino.save_model(model, str(target), compress_to_fp16=False)
    return target


def _nncf() -> Any:
    try:
        nncf = import_module("nncf")
    except ImportError as exc:
        raise MissingExtraError(
            "the candidate hf-openvino-nncf needs the module 'nncf', which is not installed",
            hint="install it next to this package: pip install nncf",
        ) from exc
    nncf.set_log_level(logging.ERROR)
    return nncf
