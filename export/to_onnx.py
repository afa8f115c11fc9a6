"""Checkpoint to verified ONNX in a few lines of Python. Usage: python export/to_onnx.py BACKBONE WEIGHTS OUT_DIR"""

import sys
from pathlib import Path

import dpt_deploy

backbone, weights, out = sys.argv[1:4]
request = dpt_deploy.ExportRequest(dpt_deploy.load_recipe(backbone), weights=weights)
with dpt_deploy.reporting(dpt_deploy.LineReporter()):
    artifact = dpt_deploy.export_model(request, Path(out)).artifact
verification = dpt_deploy.verify_artifact(artifact.path)  # the recipe's matrix of sizes and batches
for case in verification.comparison.cases:
    print(f"{case.size:>9} batch {case.batch}: max {case.max:.1e}, mean {case.mean:.1e} of range")
sys.exit(0 if verification.comparison.passed else 5)
