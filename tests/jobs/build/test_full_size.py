"""The published networks at their full size, in every narrow precision, through the real builder of TensorRT-RTX.

What is built here is what a user builds; only calibration and comparison are short and at a small size, because weights
are random: what an engine is made of does not depend on their values. Each encoder has its full depth and its published
image in one form; the other files have 4 of the 12 equal blocks, at full width, and engines for smaller images.
``benchmarks/precision_survey.py`` builds all precisions of all these networks at full depth.
"""

from dataclasses import replace
from itertools import product

import pytest
from support.tiny import quick_accuracy
from support.traces import traces_kept

from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest

pytestmark = [
    pytest.mark.needs("onnx", "torch", "onnxruntime", "tensorrt_rtx"),
]

LEAST = {("tiny", "fp16"): 0.65}  # its trained head overflows and stays FP32
BLOCKS = {"tiny": 6, "base": 12, "hybrid": 12, "hybrid-segmentation": 12}
NETWORKS = {
    "tiny": {"name": "tiny"},
    "base": {"name": "base"},
    "hybrid": {"name": "hybrid"},
    "hybrid-segmentation": {"name": "hybrid", "task": "segmentation"},
}
FEW_BLOCKS = {
    "base": {"taps": [0, 1, 2, 3], "encoder": {"depth": 4}},
    "hybrid": {"taps": ["stage0", "stage1", 1, 3], "encoder": {"depth": 4}},
}
FULL_DEPTH = {("base", "fp8"), ("hybrid", "fp16")}  # base in FP8 keeps its tolerance with all blocks only
CASES = [
    *product(("tiny", "base", "hybrid"), ("fp16", "bf16", "int8", "fp8")),
    *product(("hybrid-segmentation",), ("fp16", "int8")),
]
CALIBRATED = {"tiny": Size(192, 192)}  # what has learned is measured at the size that it has learned at
SMALL = Size(64, 64)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_it_builds_in_the_precision_asked_for_with_attention_whole(name, precision, tmp_path):
    options = {"precision": precision, "res": (CALIBRATED.get(name, SMALL),)}
    if name != "tiny":
        options["weights"] = "random"
    network = NETWORKS[name]
    model = None if (name, precision) in FULL_DEPTH else FEW_BLOCKS.get(network["name"])
    recipe = load_recipe(**network, model=model)
    side = str(192 if model else recipe.image.height)
    if name != "tiny":
        recipe = replace(recipe, image=replace(recipe.image, height=SMALL.height, width=SMALL.width))
    request = ExportRequest(recipe, **options)
    with quick_accuracy(), traces_kept():
        artifact = export_model(request, tmp_path).artifact
    assert artifact.sidecar.precision == precision
    built = build_engine_artifact(artifact.path, tmp_path, res=parse_ranges(side), batch=4, library="tensorrt_rtx")
    record = built.artifact.sidecar.engine
    assert record.audit.share(precision) > LEAST.get((name, precision), 0.9)
    assert record.audit.attention == {"whole": 4 if model else BLOCKS[name], "decomposable": 0}
    assert [str(profile) for profile in record.profiles] == [f"{side} batch 1", f"{side} batch 2..4"]
