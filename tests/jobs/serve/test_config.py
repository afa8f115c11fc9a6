"""The configuration of a network and of its image model."""

import pytest
from support.tiny import exported

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
