"""A request makes the record of its engine, and recognises an engine that answers it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.faults.handmade import NAME, SIDECAR, handmade

from dpt_deploy.artifact.records import AuditRecord, EngineOptions, RefitRecord
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.profile import ProfileCost, parse_ranges
from dpt_deploy.engine.compat import Edition
from dpt_deploy.engine.profiles import lay_out_profiles
from dpt_deploy.engine.request import BuildRequest

pytestmark = pytest.mark.fast
GPU = Gpu("Some GPU", "8.9", "580.1", 1 << 34)
AUDIT = AuditRecord("network", {}, {}, {})
PROFILES = lay_out_profiles(parse_ranges("64,64x96"), 2)


def edition(version="1.7.1", library="tensorrt_rtx"):
    return Edition(SimpleNamespace(__version__=version), library, (1, 7, 1))


def request(**changes):
    costs = tuple(ProfileCost(profile, 1000 * (index + 1), 1) for index, profile in enumerate(PROFILES))
    source = Artifact(Path("x.onnx"), SIDECAR)
    made = BuildRequest(source, edition(), GPU, PROFILES, EngineOptions(), costs, weight_bytes=7, operations={})
    return replace(made, **changes)


def test_the_record_holds_what_was_requested_and_predicted():
    record = request().record(AUDIT, 1.23456)
    assert (record.library, record.version, record.device, record.profiles) == ("tensorrt_rtx", "1.7.1", GPU, PROFILES)
    assert (record.weight_bytes, record.activation_bytes, record.seconds) == (7, 4000, 1.235)
    assert record.ends_bytes == request().ends_bytes > 0


def test_golden_tensors_are_no_parent_of_an_engine(tmp_path):
    parents = request(source=handmade(tmp_path)).parents
    assert [payload.name for payload in parents] == [NAME, f"{NAME}.data"]


def test_an_engine_of_the_same_request_answers_it():
    request_ = request()
    assert request_.is_answered_by(request_.record(AUDIT, 1.0))
    assert request_.is_answered_by(replace(request_.record(AUDIT, 2.0), device=replace(GPU, driver="600.0")))


OTHERS = {
    "library": {"edition": edition(library="tensorrt")},
    "version": {"edition": edition("1.6.1")},
    "gpu": {"device": replace(GPU, capability="9.0")},
    "no gpu": {"device": None},
    "profiles": {"profiles": PROFILES[:1]},
    "options": {"options": EngineOptions(level=1)},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_an_engine_of_another_request_does_not_answer_it(change):
    assert not request().is_answered_by(request(**change).record(AUDIT, 1.0))


def test_an_engine_without_digests_does_not_answer_a_request_for_a_refittable_one():
    options = {"options": EngineOptions(refit=True)}
    refittable = request(**options, refit=RefitRecord("digest", {}))
    assert refittable.is_answered_by(refittable.record(AUDIT, 1.0))
    assert not refittable.is_answered_by(request(**options).record(AUDIT, 1.0))
