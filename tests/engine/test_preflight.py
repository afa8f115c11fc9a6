"""A plan that cannot run is refused before it is deserialised: version, GPU, memory. Its traits are named."""

from dataclasses import replace

import pytest

from dpt_deploy.artifact.records import AuditRecord, EngineOptions, EngineRecord
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.errors import IncompatibleError, ResourceError
from dpt_deploy.core.profile import Profile, largest_bytes
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.engine.preflight import (
    check_device_memory,
    check_target,
    check_weights,
    describe_origin,
    needed_bytes,
    traits_of,
)

pytestmark = pytest.mark.fast

H200 = Gpu("NVIDIA H200", "9.0", "580.65.06", 140 << 30)
A100 = Gpu("NVIDIA A100", "8.0", "580.65.06", 80 << 30)
T4 = Gpu("Tesla T4", "7.5", "580.65.06", 16 << 30)
RTX = Gpu("NVIDIA GeForce RTX 4090", "8.9", "580.65.06", 24 << 30)

SHAPE = (1, 384, 672)
CLASSIC = EngineRecord(
    library="tensorrt",
    version="10.14.1.48",
    device=H200,
    profiles=(Profile(SHAPE, SHAPE, SHAPE), Profile((2, 384, 672), (8, 384, 672), (8, 384, 672))),
    options=EngineOptions(),
    weight_bytes=1 << 30,
    activation_bytes=2 << 30,
    seconds=1.0,
    audit=AuditRecord("network", {}, {}, {}),
)
PORTABLE = replace(CLASSIC, library="tensorrt_rtx", version="1.7.1.116", device=None)


def with_options(record, **options):
    return replace(record, options=EngineOptions(**options))


def test_a_plan_runs_where_it_was_built():
    assert check_target(CLASSIC, "10.14.1.48", [H200]) == []


def test_without_a_gpu_it_is_refused_and_says_what_built_it():
    with pytest.raises(IncompatibleError, match="the driver finds none") as caught:
        check_target(CLASSIC, "10.14.1.48", [])
    assert "tensorrt 10.14.1.48 on NVIDIA H200 (compute capability 9.0" in str(caught.value)


def test_a_plan_without_its_weights_is_refused_and_the_command_named():
    check_weights(with_options(CLASSIC, refit=True))
    with pytest.raises(IncompatibleError, match="built without its weights") as caught:
        check_weights(with_options(CLASSIC, strip_weights=True))
    assert "dpt-deploy refit PLAN MODEL.onnx" in caught.value.hint


def test_another_version_is_refused_with_the_line_that_rebuilds():
    with pytest.raises(
        IncompatibleError, match=r"built by tensorrt 10\.14\.1\.48; 11\.4\.0\.106 is installed"
    ) as caught:
        check_target(CLASSIC, "11.4.0.106", [H200])
    assert "dpt-deploy build MODEL.onnx --res 384x672 --batch 8" in caught.value.hint


@pytest.mark.parametrize(
    ("version", "fits"), [("10.15.1.29", True), ("10.13.3.9", False), ("11.4.0.106", True), ("9.15.0.0", False)]
)
def test_a_version_compatible_plan_runs_with_later_versions(version, fits):
    record = with_options(CLASSIC, version_compatible=True)
    if fits:
        assert check_target(record, version, [H200]) == []
    else:
        with pytest.raises(IncompatibleError):
            check_target(record, version, [H200])


def test_another_gpu_is_refused_unless_the_plan_was_built_for_many():
    with pytest.raises(IncompatibleError, match="does not run on NVIDIA A100") as caught:
        check_target(CLASSIC, "10.14.1.48", [A100])
    assert "--hardware-compatible" in caught.value.hint
    many = with_options(CLASSIC, hardware_compatible=True)
    assert check_target(many, "10.14.1.48", [A100]) == []
    with pytest.raises(IncompatibleError, match="Tesla T4"):
        check_target(many, "10.14.1.48", [T4])


def test_another_card_of_the_same_architecture_is_fine():
    assert check_target(CLASSIC, "10.14.1.48", [replace(H200, name="NVIDIA H100")]) == []


def test_an_rtx_plan_is_bound_to_its_targets_only():
    assert check_target(PORTABLE, "1.7.1.116", [RTX]) == []
    assert check_target(with_options(PORTABLE, compute_capabilities=("8.9",)), "1.7.1.116", [RTX]) == []
    with pytest.raises(IncompatibleError, match=r"for 12\.0; it does not run on NVIDIA GeForce RTX 4090") as caught:
        check_target(with_options(PORTABLE, compute_capabilities=("12.0",)), "1.7.1.116", [RTX])
    assert "--compute-capabilities 12.0,8.9" in caught.value.hint


def test_an_rtx_plan_on_a_gpu_it_has_no_name_for_is_doubtful_and_not_refused():
    (doubt,) = check_target(PORTABLE, "1.7.1.116", [H200])
    assert "9.0 of NVIDIA H200" in doubt


def test_the_origin_names_the_targets():
    assert describe_origin(with_options(PORTABLE, compute_capabilities=("8.9",))).endswith("without a GPU for 8.9")


def test_an_engine_larger_than_what_is_free_is_refused():
    needed = needed_bytes(CLASSIC.weight_bytes, CLASSIC.activation_bytes, 0)
    assert needed > 3 << 30
    check_device_memory(needed, needed, H200)
    check_device_memory(needed, None, None)
    with pytest.raises(ResourceError, match=r"needs about 3\.7 GB of device memory .* 1\.1 GB are free on NVIDIA H200"):
        check_device_memory(needed, 1 << 30, H200)


def test_ends_are_those_of_the_largest_shape():
    image, depth = (
        TensorSpec("image", "float32", ("batch", 3, "height", "width")),
        TensorSpec("depth", "float16", ("batch", "height", "width")),
    )
    pixels = 8 * 384 * 672
    assert [largest_bytes(spec, CLASSIC.profiles) for spec in (image, depth)] == [12 * pixels, 2 * pixels]
    assert largest_bytes(TensorSpec("image", "uint8", (1, 64, 96, 3)), CLASSIC.profiles) == 64 * 96 * 3


def test_the_traits_of_an_engine():
    assert traits_of("fp16", "depth", 1) == {"fp16", "depth"}
    assert traits_of("int8", "segmentation", 8) == {"int8", "segmentation", "batch"}
    assert traits_of("fp16", "depth", 1, refittable=True) == {"fp16", "depth", "refit"}
