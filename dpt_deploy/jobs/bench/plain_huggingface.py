"""Candidates ``hf-ort…`` of benchmarks: Hugging Face's network, exported as users would. Needs the extra ``oracle``."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import quantize_dynamic
from transformers import AutoModelForDepthEstimation
from transformers.utils import logging as hf_logging

from dpt_deploy.core.size import Size
from dpt_deploy.model.checkpoints.huggingface import save_huggingface


class _DepthOnly(torch.nn.Module):
    """Returns the one tensor that the export should have."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return self.model(pixel_values).predicted_depth


def export_plain(module: Any, size: Size, batch: int, folder: Path) -> Path:
    """Save ``module`` for Hugging Face, load it there, and export it at one static shape with default options.

    Raises:
        UsageError: the network has no Hugging Face counterpart.
    """
    target = folder / "plain.onnx"
    if target.is_file():
        return target
    save_huggingface(module, folder / "hf")
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    model = AutoModelForDepthEstimation.from_pretrained(folder / "hf").eval()
    model.config.image_size = size.height
    example = torch.zeros((batch, 3, size.height, size.width))
    with torch.inference_mode(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _DepthOnly(model), (example,), target, input_names=["pixel_values"], dynamo=True, verbose=False
        )
    return target


def export_dynamic_int8(module: Any, size: Size, batch: int, folder: Path) -> Path:
    """Quantise the export of :func:`export_plain` with the default options of ONNX Runtime's dynamic quantisation.

    Weights become 8-bit integers in the file; activations do at run time, each with the range of its tensor.
    """
    target = folder / "dynamic-int8.onnx"
    if not target.is_file():
        model = onnx.load(export_plain(module, size, batch, folder))
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # advice to run a tool that changes nothing here
        try:
            quantize_dynamic(model, target)
        finally:
            logging.disable(before)
    return target
