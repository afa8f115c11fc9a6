"""The configuration of a network and of its image model."""

import pytest
from support.tiny import exported
from support.two_outputs import CONFIDENCE, CONFIDENCE_NAME, DEPTH_NAME, two_outputs

from dpt_deploy.core.task import TASKS
from dpt_deploy.jobs.serve.request import ServeOptions, served_models

pytest.importorskip("tritonclient", reason="the extra serve is not installed (make serve-test installs it)")
from dpt_deploy.jobs.serve.config import image_config, network_config

pytestmark = pytest.mark.needs("torch")


@pytest.mark.parametrize("make", [network_config, image_config])
@pytest.mark.parametrize(
    ("options", "batcher", "bound"),
    [({}, False, 0), ({"queue": 5}, True, 5), ({"device": "gpu"}, True, 0), ({"device": "gpu", "queue": 5}, True, 5)],
    ids=["cpu", "cpu, bounded", "gpu", "gpu, bounded"],
)
def test_there_is_a_batcher_on_a_gpu_or_for_a_bound(make, options, batcher, bound):
    (model,) = served_models([exported("tiny-vit")], ServeOptions(**options))
    config = make(model)
    assert config.HasField("dynamic_batching") == batcher
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (bound, 0)


@pytest.mark.parametrize("make", [network_config, image_config])
def test_several_outputs_are_all_served(make, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, CONFIDENCE.name, CONFIDENCE)
    (model,) = served_models([two_outputs(tmp_path)], ServeOptions())
    assert [(each.name, len(each.dims)) for each in make(model).output] == [(DEPTH_NAME, 2), (CONFIDENCE_NAME, 2)]
