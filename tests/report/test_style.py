"""The settings of all figures."""

import io

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from dpt_deploy.report.style import STYLE

pytestmark = pytest.mark.needs("matplotlib")


def drawn(name):
    figure = Figure()
    figure.subplots().set_title(name)
    figure.savefig(io.BytesIO(), format="svg")


def test_a_name_with_dollar_signs_is_no_formula():
    with pytest.raises(ValueError, match=r"Double superscript|Expected|Unknown|ParseException"):
        drawn("a$^$b")  # by matplotlib's own settings
    with rc_context(STYLE):
        drawn("a$^$b")
