"""Parity cases: what passes, what fails, and which references are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.paths import TESTS
from support.reporting import recording

from dpt_deploy.artifact.records import CaseResult, OutputRecord, ParityRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.verify.compare import (
    MIN_SPAN_RANDOM,
    MIN_SPAN_TRAINED,
    check_reference,
    compare,
    compare_matrix,
    expected_outputs,
)

pytestmark = pytest.mark.fast

TOLERANCE = Tolerance(max=1e-4, mean=1e-5, disagreement=1e-3)
SIZE = Size(32, 64)
OUTPUT = OutputRecord("predicted_depth", "float32", ("batch", "height", "width"), "depth", TOLERANCE)
LABELS = OutputRecord("labels", "int64", ("batch", "height", "width"), "labels", TOLERANCE)
DEPTH = np.linspace(1.0, 5.0, 2 * 32 * 64).reshape(2, 32, 64).astype(np.float32)


def named(values):
    return {OUTPUT.name: values}


def _case(candidate, reference=DEPTH):
    return compare(candidate, reference, LABELS if reference.dtype.kind == "i" else OUTPUT, batch=2, size=SIZE)


def test_equal_outputs_pass():
    case = _case(DEPTH.copy())
    assert case.passed
    assert (case.max, case.mean, case.abs_rel) == (0.0, 0.0, pytest.approx(0.0, abs=1e-12))


def test_one_pixel_over_the_maximum_fails():
    off = DEPTH.copy()
    off[1, 3, 5] += 4.0 * 2e-4
    assert not _case(off).passed


def test_a_small_error_everywhere_fails_the_mean():
    case = _case(DEPTH + np.float32(4.0 * 5e-5))
    assert case.max < TOLERANCE.max
    assert not case.passed


def test_a_candidate_with_nan_fails_with_a_note():
    off = DEPTH.copy()
    off[0, 0, 0] = np.nan
    case = _case(off)
    assert (case.passed, case.max, case.note) == (False, None, "NaN or Inf in the output")


def test_labels_are_held_to_the_share_that_may_differ():
    labels = np.arange(10_000, dtype=np.int32).reshape(1, 100, 100) % 7
    off = labels.copy()
    off[0, 0, :10] += 1
    assert _case(off, labels).passed
    off[0, 0, :11] = 99
    assert not _case(off, labels).passed


def test_another_shape_fails_with_a_note():
    case = _case(DEPTH.transpose(0, 2, 1))
    assert (case.passed, case.max) == (False, None)
    assert case.note.startswith("output shape [2, 64, 32], expected [2, 32, 64]")


def test_a_size_the_graph_refuses_is_a_failed_case_and_the_rest_is_measured():
    def outputs(batch, _size):
        if batch == 1:
            raise UsageError("the model does not accept it")
        return named(DEPTH), named(DEPTH)

    report = compare_matrix(outputs, [(1, SIZE), (2, SIZE)], [OUTPUT], min_span=0.5)
    assert [(case.passed, case.note) for case in report.cases] == [(False, "the model does not accept it"), (True, "")]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        pytest.param(np.zeros((1, 4, 4)), "flat", id="all zero"),
        pytest.param(np.full((1, 4, 4), 7.0), "flat", id="constant"),
        pytest.param(7.0 + np.linspace(0, 1, 16).reshape(1, 4, 4), "flat", id="span under half"),
        pytest.param(np.full((1, 4, 4), np.nan), "not finite", id="NaN"),
        pytest.param(np.ones((1, 4, 4), np.int32), "all the same", id="one label"),
    ],
)
def test_a_reference_that_agrees_with_anything_is_refused(reference, message):
    with pytest.raises(ParityError, match=message):
        check_reference(reference, LABELS.kind if reference.dtype.kind == "i" else OUTPUT.kind, min_span=0.5)


def test_a_trained_network_may_see_no_sky():
    none, sky = np.zeros((1, 4, 4), np.float32), replace(OUTPUT, name="sky", task="sky")
    check_reference(none, sky.kind, min_span=MIN_SPAN_TRAINED)
    for wrong, span in ((none, MIN_SPAN_RANDOM), (none + np.nan, MIN_SPAN_TRAINED)):
        with pytest.raises(ParityError):
            check_reference(wrong, sky.kind, min_span=span)
    near, far = none + np.float32(5e-6), none + np.float32(2e-4)
    assert compare(near, none, sky, batch=1, size=SIZE).passed
    assert not compare(far, none, sky, batch=1, size=SIZE).passed  # errors over 1, the scale of a sky
    assert not compare(near, none, OUTPUT, batch=1, size=SIZE).passed


def test_a_varied_reference_is_accepted():
    check_reference(DEPTH, OUTPUT.kind, min_span=0.5)
    check_reference(np.array([[[0, 1]]], np.int32), LABELS.kind, min_span=0.5)


def test_the_matrix_measures_every_case_even_after_a_failure():
    def outputs(batch, _size):
        return named(DEPTH + (batch == 1)), named(DEPTH)

    with recording() as reporter:
        report = compare_matrix(outputs, [(1, SIZE), (2, SIZE)], [OUTPUT], min_span=0.5)
    assert [case.passed for case in report.cases] == [False, True]
    assert (report.passed, len(report.failures)) == (False, 1)
    assert reporter.lines == [f"{SIZE}, batch 1: FAIL", f"{SIZE}, batch 2: pass"]


def test_an_empty_matrix_proves_nothing():
    assert not compare_matrix(lambda _b, _s: ({}, {}), [], [OUTPUT], min_span=0.5).passed


def test_a_case_that_failed_is_checked_again_and_no_other():
    seen = []

    def again(case):
        seen.append(case.batch)
        return case

    def outputs(batch, _size):
        return named(DEPTH + (batch - 1)), named(DEPTH)

    compare_matrix(outputs, [(1, SIZE), (2, SIZE)], [OUTPUT], min_span=0.0, again=again)
    assert seen == [2]


def test_every_output_is_compared_by_its_own_task_and_named():
    labels = np.arange(2 * 32 * 64).reshape(2, 32, 64) % 7
    off = {"predicted_depth": DEPTH + 1, "labels": np.where(labels == 6, 0, labels)}

    def outputs(_batch, _size):
        return off, {"predicted_depth": DEPTH, "labels": labels}

    loose = replace(LABELS, tolerance=replace(TOLERANCE, disagreement=0.5))
    report = compare_matrix(
        outputs,
        [(2, SIZE)],
        [
            OUTPUT,
            LABELS,
        ],
        min_span=0.5,
    )
    assert [(case.output, case.passed) for case in report.cases] == [("predicted_depth", False), ("labels", False)]
    assert [case.max is None for case in report.cases] == [False, True]
    report = compare_matrix(outputs, [(2, SIZE)], [OUTPUT, loose], min_span=0.5)
    assert [case.passed for case in report.cases] == [False, True]
    assert report.tolerances == {"predicted_depth": TOLERANCE, "labels": loose.tolerance}


# --- 8 bits -----------------------------------------------------------------------------------------------------------

EIGHT_BITS = Sidecar.from_json((TESTS / "golden/sidecars_format_1/tiny-vit-int8.onnx.json").read_bytes())


def recorded(mean, *, verified=True, precision="int8"):
    """A sidecar whose record has this mean error."""
    (output,) = EIGHT_BITS.outputs
    output = replace(output, tolerance=Tolerance(max=0.5, mean=0.06, disagreement=0.2), type_loss=None)
    case = CaseResult(1, "64x96", verified, max=0.2, mean=mean, output=output.name)
    parity = ParityRecord(verified, True, "emu", {}, (case,))
    return replace(EIGHT_BITS, precision=precision, outputs=(output,), parity=parity)


@pytest.mark.parametrize(
    ("sidecar", "limit"),
    [
        (recorded(0.006), 0.04),
        (recorded(0.012), 0.048),
        (recorded(0.05), 0.06),  # never more than the recipe allows
        (recorded(0.006, verified=False), 0.06),
        (recorded(0.006, precision="fp16"), 0.06),
        (replace(recorded(0.006), parity=None), 0.06),
    ],
)
def test_8_bits_are_held_to_their_own_record(sidecar, limit):
    (output,) = expected_outputs(sidecar)
    assert (output.allowed.mean, output.allowed.max) == (limit, 0.5)


def test_a_fault_that_8_bits_allow_is_noticed_by_the_mean():
    """Half of the values one step off, as ONNX Runtime 1.29 rounds: mean 0.05, max 0.3."""
    (output,) = expected_outputs(recorded(0.007))
    off = DEPTH + np.float32(4.0 * 0.05)
    off[0, 0] += np.float32(4.0 * 0.2)
    assert compare(off, DEPTH, recorded(0.007).outputs[0], batch=2, size=SIZE).passed
    assert not compare(off, DEPTH, output, batch=2, size=SIZE).passed
