"""Time one joint file against the two files of its outputs; writes results/joint-cost-….json.

Usage: python benchmarks/joint_cost.py [SECONDS [BACKBONE SIDE [OUT]]]    (default: 120 seconds for base at 384)

One call of the joint file and one call of each single file, one after the other, take turns in ONNX Runtime; the order
rotates and the median of the ratios within each round is reported. The weights are random, so the numbers are of time
alone. FocusOnDepth (BACKBONE focus-base) shares its decoder, too. Before the timing, the depth of the joint file must
equal that of the single file bit for bit; the scores have weights of other names, hence other random values, and must
have the same shape. If the interval is wide, as on a busy machine, nothing is written and the exit code is 1.
"""

import datetime
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.measure.timing import TimedCall, interleave, ratio

TASKS = ("both", "depth", "segmentation")
WIDEST = 0.05  # of the interval of the ratio: beyond it the machine did something else meanwhile


def exported(backbone, folder):
    """The three files with random weights; each tensor is drawn by its name."""
    requests = {task: ExportRequest(load_recipe(backbone, task=task), "random") for task in TASKS}
    return {task: export_model(request, folder).artifact for task, request in requests.items()}


def check(runners, inputs):
    """Stop unless the joint file computes the depth of the single one, and as many scores."""
    both, depth, scores = (list(runners[task].infer(inputs).values()) for task in TASKS)
    if not np.array_equal(both[0], depth[0]) or both[1].shape != scores[0].shape:
        sys.exit("the joint file does not compute what the single ones do")


def compared(backbone, side, seconds, folder):
    """Medians of the joint file and of the two others together, and the ratio with its 95 % interval."""
    with ExitStack() as stack:
        artifacts = exported(backbone, folder)
        images = structured_images(1, side, side)
        inputs = model_inputs(artifacts["both"].sidecar, images)
        runners = {task: stack.enter_context(open_runner(each, "ort")) for task, each in artifacts.items()}
        check(runners, inputs)

        def two_files():
            runners["depth"].infer(inputs)
            runners["segmentation"].infer(inputs)

        one_file = TimedCall(lambda: runners["both"].infer(inputs), lambda: None)
        calls = {"joint": one_file, "two files": TimedCall(two_files, lambda: None)}
        session = interleave(calls, seconds=seconds)
    joint, two = session.timings["joint"], session.timings["two files"]
    found = {"model": artifacts["both"].path.stem, "weights": str(artifacts["both"].sidecar.weights), "size": side}
    found |= {"rounds": session.rounds, "two_files_over_joint": ratio(two, joint)}
    found |= {"p50_ms": {"joint": 1000 * joint.median, "two files": 1000 * two.median}}
    operations = {task: each.sidecar.operations.graph for task, each in artifacts.items()}
    return found | {"operations_at": artifacts["both"].sidecar.operations.size, "operations": operations}


def main(seconds="120", backbone="base", side="384", out=str(Path(__file__).parent / "results")):
    """Record the result if its interval is narrow; return the exit code."""
    begun = datetime.datetime.now(datetime.UTC)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        case = compared(backbone, int(side), float(seconds), folder)
    result = {"kind": "joint-cost", "recorded": begun.isoformat(timespec="seconds"), "environment": fingerprint()}
    result |= {"load_average": {"before": load, "after": os.getloadavg()}, "case": case}
    path = Path(out) / f"joint-cost-{Path(backbone).stem}-{os.cpu_count()}c-{begun:%Y%m%d}.json"
    print(json.dumps(case, indent=2))
    middle, low, high = case["two_files_over_joint"]
    if high - low > WIDEST * middle:
        print(f"the interval is wider than {WIDEST:.0%} of the ratio: measure on a quiet machine", file=sys.stderr)
        return 1
    path.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
