"""The table of precisions: its records agree with each other, and a name that is not in it is refused."""

import pytest

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.precision import PRECISIONS, find_precision

pytestmark = pytest.mark.fast


def test_the_names_in_records_are_in_the_table():
    for precision in PRECISIONS.values():
        assert set(precision.files) <= set(PRECISIONS), precision.name
        assert precision.name in precision.files, precision.name
        assert not precision.loss_precision or find_precision(precision.loss_precision).is_half


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_bits_and_formats_of_a_record_agree(precision):
    assert (precision.bits == 8) == (precision.quantised is not None)
    assert precision.is_half == (precision.bits == 16)
    assert precision.is_narrow == bool(precision.loss_precision)


def test_int8_is_two_files_one_for_each_kind_of_machine():
    cpu, engine = map(find_precision, find_precision("int8").files)
    assert (cpu.name, cpu.cpu_runtime, cpu.for_engines) == ("int8-cpu", "ort", False)
    assert (engine.name, engine.cpu_runtime, engine.for_engines) == ("int8", "", True)


def test_an_unknown_precision_is_refused_with_a_list_of_those_there_are():
    with pytest.raises(UsageError, match="precision 'int4' is not available") as caught:
        find_precision("int4")
    assert "int8-cpu" in caught.value.hint


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_files_of_one_export_share_their_golden_tensors(precision):
    """They are made once: from the same kind of images, and with the same 16-bit type."""
    files = [find_precision(name) for name in precision.files]
    assert len({(each.loss_precision, each.quantised is None) for each in files}) == 1
