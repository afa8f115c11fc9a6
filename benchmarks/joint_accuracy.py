"""Score the shipped network for depth and segmentation on unseen scenes; writes results/joint-accuracy.{json,png}.

Usage: python benchmarks/joint_accuracy.py [SCENES [PRECISION,…]]     (default: 96 scenes, fp32,fp16,int8-cpu)

One run of tiny-both gives both maps of a rendered scene, whose depth and labels are known exactly. Depth is scored by
the paper's zero-shot protocol, labels by the share of correct pixels and the mean intersection over union (mIoU). The
scenes are for studies: the network was not trained on them. Intervals are 95 % bootstrap intervals over images; changes
from FP32 are paired. The last row is a map that is the most frequent class everywhere: it knows nothing of the image.
"""

import datetime
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.imaging.palette import palette
from dpt_deploy.jobs.attack.pictures import pictures
from dpt_deploy.jobs.attack.request import AttackRequest
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.measure.bootstrap import RESAMPLES, Estimate, image_weights
from dpt_deploy.measure.metrics import SegmentationCounts, segmentation_counts
from dpt_deploy.runtime.predictor import Predictor

MODEL = "tiny-both"
SHOWN = 5  # scenes in the picture
RESULTS = Path(__file__).parent / "results"


def scored(artifact, depth, labels, samples):
    """AbsRel and the counts of every class for each scene, and the maps of the first ones."""
    size = Size(artifact.sidecar.image.height, artifact.sidecar.image.width)
    errors, counts, maps = [], [], []
    with open_runner(artifact) as runner:
        predictor = Predictor(runner, artifact.sidecar, image=depth.rule(artifact.sidecar.image, size))
        for sample, labelled in samples:
            found = predictor.infer_all(predictor.prepare(sample.image))
            near, classes = found["predicted_depth"][0], labels.labels(found["logits"][0], labelled)
            errors.append(depth.errors(near, sample)["abs_rel"])
            counts.append(segmentation_counts(classes, labelled.labels, labels.protocol.classes))
            if len(maps) < SHOWN:
                maps.append((sample, near, labelled, classes))
    return np.array(errors), counts, maps


def accuracy(errors, counts):
    """Every score of each draw of the bootstrap: (1 + resamples,) each."""
    weights = image_weights(len(errors), 0, RESAMPLES)
    parts = [np.stack([getattr(each, key) for each in counts]) for key in ("intersection", "predicted", "labelled")]
    drawn = [SegmentationCounts(*each) for each in zip(*(weights @ part for part in parts), strict=True)]
    correct = np.array([each.intersection.sum() / each.labelled.sum() for each in drawn])
    return {"abs_rel": weights @ errors, "correct": correct, "mean_iou": np.array([each.mean_iou for each in drawn])}


def constant(counts):
    """Counts of maps that are the most frequent class everywhere."""
    most = int(sum(each.labelled for each in counts).argmax())
    for each in counts:
        only = np.arange(len(each.labelled)) == most
        yield SegmentationCounts(each.labelled * only, each.labelled.sum() * only, each.labelled)


def draw(maps, colours, path):
    """One column a scene: the image, then truth and prediction of depth and of labels."""
    rows = ("image", "depth, true", "depth, found", "labels, true", "labels, found")
    figure, axes = plt.subplots(len(rows), len(maps), figsize=(2.3 * len(maps), 2.3 * len(rows)))
    for column, (sample, near, labelled, classes) in zip(axes.T, maps, strict=True):
        known = sample.depth > 0
        inverse = np.divide(1, sample.depth, out=np.zeros_like(sample.depth), where=known)
        column[0].imshow(sample.image)
        column[1].imshow(inverse, cmap="inferno", vmax=np.percentile(inverse[known], 98))
        column[2].imshow(near, cmap="inferno", vmax=np.percentile(near, 98))
        column[3].imshow(colours[labelled.labels])
        column[4].imshow(colours[classes])
    for axis, title in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(title, fontsize=12)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.subplots_adjust(left=0.03, right=0.999, bottom=0.005, top=0.995, wspace=0.02, hspace=0.02)
    figure.savefig(path, dpi=80)


def main(scenes="96", precisions="fp32,fp16,int8-cpu"):
    recipe = load_recipe(MODEL)
    request = AttackRequest(MODEL, scenes=int(scenes))
    depth, labels = (pictures(request, recipe.model, task) for task in ("depth", "segmentation"))
    samples = [(depth.read(name)[0], labels.read(name)[0]) for name in depth.names]
    rows, first = [], None
    for precision in precisions.split(","):
        with tempfile.TemporaryDirectory() as folder:
            artifact = export_model(ExportRequest(recipe, precision=precision), Path(folder)).artifact
            errors, counts, maps = scored(artifact, depth, labels, samples)
        found = accuracy(errors, counts)
        if first is None:
            first = found
            draw(maps, palette(labels.protocol.classes), RESULTS / "joint-accuracy.png")
            blind = accuracy(errors, list(constant(counts)))
        row = {"precision": precision, **{key: asdict(Estimate.of(draws)) for key, draws in found.items()}}
        row["change"] = {key: asdict(Estimate.of(draws - first[key])) for key, draws in found.items()}
        rows.append(row)
        print(row, flush=True)
    document = {
        "kind": "joint-accuracy",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": fingerprint(),
        "model": MODEL,
        "scenes": len(depth.names),
        "seed": depth.data.seed,
        "rows": rows,
        "most_frequent_class": {key: asdict(Estimate.of(blind[key])) for key in ("correct", "mean_iou")},
    }
    (RESULTS / "joint-accuracy.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
