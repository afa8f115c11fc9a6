"""A fake of the part of TensorRT that refits, with plans for it, after TensorRT's headers and documents.

Its plan is a list of weights with their digests (null: left out) in JSON. Written after ``NvInferRuntime.h`` and the
parser's refitter: only weights that the engine knows by name are set, all others are passed over; one that is not set
fails the file; a plan built without weights leaves them out again and stops being refittable unless a flag keeps it so.
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

from support.fake_gpu import FakeCuda
from support.faults.calling import complaint
from support.faults.handmade import listing

from dpt_deploy.artifact.records import AuditRecord, EngineOptions, EngineRecord
from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import payload_of, write_sidecar
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.engine import callbacks
from dpt_deploy.engine.profiles import lay_out_profiles
from dpt_deploy.graph.analysis.fingerprint import fingerprint
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.jobs.build.refit.same_graph import record_of
from dpt_deploy.jobs.common import targets
from dpt_deploy.runtime.cuda import driver as _cuda

GPU = Gpu("Fake", "8.9", "580.1", 1 << 34)
VERSIONS = {"tensorrt": "10.14.1.48", "tensorrt_rtx": "1.7.1.116"}


class Flag(Enum):
    EXCLUDE_WEIGHTS = 0
    EXCLUDE_LEAN_RUNTIME = 1
    INCLUDE_REFIT = 2


@dataclass
class Faults:
    """Faults by name; a test sets those it needs."""

    loads: int = 1 << 30  # so many more plans
    known: bool = True  # the library knows INCLUDE_REFIT
    refits: bool = True
    serialises: bool = True
    errors: list[str] = field(default_factory=list)  # what the library says where something fails


class Config:
    def __init__(self, flags):
        self.flags = flags

    def set_flag(self, flag):
        self.flags.add(flag)
        return True

    def clear_flag(self, flag):
        self.flags.discard(flag)
        return True


class Engine:
    def __init__(self, faults, content):
        self.faults, self.stripped, self.refittable = faults, content["stripped"], content["refittable"]
        self.weights = content["weights"]

    def create_serialization_config(self):
        return Config({Flag.EXCLUDE_WEIGHTS} if self.stripped else set())

    def serialize_with_config(self, config):
        if not self.faults.serialises:
            return None
        bare = Flag.EXCLUDE_WEIGHTS in config.flags
        lasting = not self.stripped or bare or Flag.INCLUDE_REFIT in config.flags
        weights = dict.fromkeys(self.weights) if bare else self.weights
        return plan_bytes(weights, refittable=self.refittable and lasting, stripped=bare)


class Refitter:
    def __init__(self, engine, logger):
        if not engine.refittable:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.engine, self.logger, self.given = engine, logger, {}

    def get_all_weights(self):
        return list(self.engine.weights)

    def get_missing_weights(self):
        return [name for name, value in self.engine.weights.items() if value is None and name not in self.given]

    def refit_cuda_engine(self):
        if self.get_missing_weights() or not self.engine.faults.refits:
            self.logger.tell(self.engine.faults.errors)
            return False
        self.engine.weights = self.engine.weights | self.given
        return True


class OnnxParserRefitter:
    def __init__(self, refitter, _logger):
        self.refitter, self.num_errors = refitter, 0

    def refit_from_file(self, path):
        every = self.refitter.engine.weights
        self.refitter.given = {
            name: it for name, it in fingerprint(OpenedGraph(Path(path))).weights.items() if name in every
        }
        self.num_errors = int(len(self.refitter.given) != len(every))
        return not self.num_errors

    def get_error(self, _index):
        text = (
            f"Only successfully refitted {len(self.refitter.given)} weights out of {len(self.refitter.engine.weights)}"
        )
        return SimpleNamespace(desc=lambda: text)


def plan_bytes(weights, *, refittable, stripped):
    return json.dumps({"weights": weights, "refittable": refittable, "stripped": stripped}).encode()


def fake_library(faults, version):
    class ILogger:
        ERROR, WARNING = 1, 2

        def tell(self, texts):
            for text in texts:
                self.log(self.ERROR, text)

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, data):
            faults.loads -= 1
            return Engine(faults, json.loads(data)) if faults.loads >= 0 else None

    module = SimpleNamespace(__version__=version, __name__="fake", ILogger=ILogger, Runtime=Runtime)
    module.Refitter, module.OnnxParserRefitter = Refitter, OnnxParserRefitter
    module.SerializationFlag = SimpleNamespace(EXCLUDE_WEIGHTS=Flag.EXCLUDE_WEIGHTS)
    if faults.known:
        module.SerializationFlag.INCLUDE_REFIT = Flag.INCLUDE_REFIT
    return module


def install_refit(monkeypatch, library="tensorrt_rtx", version=None, **faults):
    """Put the fakes in place of CUDA, the driver and a library; returns the faults that a test can set."""
    made = Faults(**faults)
    monkeypatch.setitem(sys.modules, library, fake_library(made, version or VERSIONS[library]))
    monkeypatch.setattr(callbacks, "_logger", functools.cache(callbacks._logger.__wrapped__))
    monkeypatch.setattr(_cuda, "runtime", FakeCuda())
    monkeypatch.setattr(targets, "gpu_devices", lambda: [GPU])
    monkeypatch.setattr(targets, "free_device_memory", lambda: None)
    return made


def plan_of(model, folder, *, library="tensorrt_rtx", version=None, fixed=(), **options):
    """The plan of an exported model as ``build`` with these options leaves it; ``fixed`` weights are no longer the
    plan's to change."""
    folder.mkdir(exist_ok=True)
    chosen = EngineOptions(**options)
    refit = record_of(OpenedGraph(model.path)) if chosen.refittable else None
    weights = {name: None if chosen.strip_weights else it for name, it in (refit.weights if refit else {}).items()}
    path = folder / model.path.with_suffix(".plan").name
    taken = {name: it for name, it in weights.items() if name not in fixed}
    path.write_bytes(plan_bytes(taken, refittable=chosen.refittable, stripped=chosen.strip_weights))
    profiles = lay_out_profiles(parse_ranges("64"), 1)
    audit = AuditRecord("network", {}, {}, {})
    record = EngineRecord(
        library, version or VERSIONS[library], GPU, profiles, chosen, 1 << 20, 1 << 20, 1.0, audit, refit=refit
    )
    parents = tuple(payload for payload in model.sidecar.payloads if payload.name != model.sidecar.golden)
    made = {"kind": PLAN, "payloads": (payload_of(path),), "parents": parents, "golden": "", "engine": record}
    write_sidecar(path, replace(model.sidecar, **made))
    return path


def weights_in(plan):
    return json.loads(plan.read_text())["weights"]


def refused(capsys, code, *argv, out):
    """A complaint that leaves ``out`` as it was."""
    before = listing(out)
    said = " ".join(complaint(capsys, code, "refit", *argv).split())
    assert listing(out) == before
    return said
