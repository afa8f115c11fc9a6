"""Names of a repository's models, and the plans that Triton cannot serve."""

from dataclasses import replace

import pytest
from support.served import APART, plan_artifact
from support.tiny import exported

from dpt_deploy.core.errors import IncompatibleError, UsageError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.serve.request import ServeOptions, profile_fault, served_models

pytestmark = pytest.mark.needs("torch")


def test_an_onnx_file_has_two_instances_on_a_cpu_and_one_on_a_gpu():
    (model,) = served_models([exported("tiny-vit")], ServeOptions())
    assert (model.device, model.instances, model.max_batch) == ("cpu", 2, 8)
    image = exported("tiny-vit").sidecar.image
    assert model.warm_shapes == ((1, Size(image.height, image.width)),)
    (model,) = served_models([exported("tiny-vit")], ServeOptions(device="gpu"))
    assert (model.instances, [batch for batch, _ in model.warm_shapes]) == (1, [1, 8])


def test_a_plan_has_its_own_batches_and_sizes(tmp_path):
    (model,) = served_models([plan_artifact(tmp_path)], ServeOptions())
    assert (model.device, model.max_batch) == ("gpu", 4)
    assert set(model.warm_shapes) == {(1, Size(64, 64)), (4, Size(64, 64)), (1, Size(64, 96)), (4, Size(64, 96))}


def test_one_name_twice_is_an_error():
    artifact = exported("tiny-vit")
    with pytest.raises(UsageError, match="two models"):
        served_models([artifact, artifact], ServeOptions())
    other = replace(artifact, path=artifact.path.with_name(f"{artifact.path.stem}_image.onnx"))
    with pytest.raises(UsageError, match="_image"):
        served_models([artifact, other], ServeOptions())
    with pytest.raises(UsageError, match="no artefact"):
        served_models([], ServeOptions())


@pytest.mark.parametrize(
    ("profiles", "fault"),
    [
        (APART, ""),
        (APART[:3], "same batches"),
        (APART[1:2], "same batches"),
        ((*APART, Profile((1, 32, 32), (1, 64, 64), (1, 96, 96))), "overlap"),
    ],
    ids=["apart", "unequal", "not from 1", "overlapping"],
)
def test_profiles_are_apart_and_take_the_same_batches(profiles, fault):
    found = profile_fault(profiles)
    assert fault in found
    assert bool(fault) == bool(found)


def test_plans_of_another_library_or_version_are_refused(tmp_path):
    with pytest.raises(IncompatibleError, match=r"plans of tensorrt only"):
        served_models([plan_artifact(tmp_path / "rtx", library="tensorrt_rtx")], ServeOptions())
    plan = plan_artifact(tmp_path / "trt")
    with pytest.raises(IncompatibleError, match=r"the server has 10\.9"):
        served_models([plan], ServeOptions(tensorrt="10.9"))
    assert served_models([plan], ServeOptions(tensorrt="10.13"))
