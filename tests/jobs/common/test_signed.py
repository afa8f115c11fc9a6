"""A signature is checked only if there is a key."""

from pathlib import Path

import pytest

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.common import signed
from dpt_deploy.jobs.common.signed import check_if_asked

pytestmark = pytest.mark.fast


def test_without_a_key_nothing_is_checked():
    check_if_asked(Path("model.onnx"), None, None)


def test_a_signature_without_a_key_is_refused():
    with pytest.raises(UsageError, match="needs a key"):
        check_if_asked(Path("model.onnx"), None, Path("model.onnx.sig"))


def test_with_a_key_the_signature_is_checked(monkeypatch):
    calls = []
    monkeypatch.setattr(signed, "load_attribute", lambda *_args, **_options: lambda *given: calls.append(given))
    check_if_asked(Path("model.onnx"), Path("key.pub"), None)
    assert calls == [(Path("model.onnx"), Path("key.pub"), None)]
