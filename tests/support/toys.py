"""A network of seconds with everything that has a state, and its training for both tasks."""

import numpy as np
import torch
from torch import nn

from dpt_deploy.jobs.train.config import Schedule
from dpt_deploy.jobs.train.loop import fit
from dpt_deploy.jobs.train.objectives import DepthObjective, SegmentationObjective

CLASSES_HERE = 4
SCHEDULE = Schedule(steps=8, batch=2, encoder_rate=1e-3, decoder_rate=1e-2, warm_up=2)
IDENTITY = {"backbone": "net", "seed": 1, "schedule": {"steps": 8}}


class Net(nn.Module):
    """An encoder and a decoder with everything that has a state: batch norm and dropout."""

    def __init__(self, channels):
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3, padding=1)
        self.fusion = nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Sequential(nn.BatchNorm2d(8), nn.Dropout(0.3))])
        self.head = nn.Conv2d(8, channels, 1)

    def forward(self, images):
        out = self.head(self.fusion[0](self.fusion[1](torch.relu(self.encoder(images)))))
        return out.squeeze(1)


def network(channels=1):
    torch.manual_seed(5)
    return Net(channels).train()


def depth_batches(step):
    rng = np.random.default_rng([9, step])
    images = torch.from_numpy(rng.normal(size=(2, 3, 8, 8))).float()
    return images, images.mean(dim=1) * 3 + 1


def label_batches(step):
    images, _ = depth_batches(step)
    return images, (images[:, 0] > 0).long() + 2 * (images[:, 1] > 0).long()


def segmentation(**changes):
    return SegmentationObjective(**{"tap": "fusion.1", "channels": 8, "classes": CLASSES_HERE, "seed": 1, **changes})


def depth():
    return DepthObjective("head")


TASKS = {
    "depth": (network, depth_batches, depth),
    "segmentation": (lambda: network(CLASSES_HERE), label_batches, segmentation),
}


def trained(folder, task="depth", schedule=SCHEDULE, **options):
    """The network, the objective and the history of a training in ``folder``."""
    make, batches, objective = TASKS[task]
    net, aim = make(), objective()
    options = {"identity": IDENTITY, "seed": 1, "checkpoint": folder / "net.training", **options}
    history = fit(net, net.encoder.parameters(), batches, aim, schedule, **options)
    return net, aim, history


def same(one, other):
    """Return True if two modules hold the same bits."""
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[key], theirs[key]) for key in mine.keys() | theirs.keys())
