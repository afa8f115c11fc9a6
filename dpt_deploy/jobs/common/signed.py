"""The check of a signature for commands that also take artefacts without one."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute

_CHECK = "dpt_deploy.jobs.common.signature:check_signature"  # imported on demand: few need the extra


def check_if_asked(path: Path, public_key: Path | None, signature: Path | None) -> None:
    """Check the signature of ``path`` if there is a key to check it with.

    Raises:
        UsageError: there is a signature, but no key.
        BadFileError: there is no signature, or it or the key cannot be read.
        SignatureMismatchError: the artefact is not what was signed.
    """
    if public_key is not None:
        check = load_attribute(_CHECK, which="sign", purpose="checking a signature")
        check(path, public_key, signature)
    elif signature is not None:
        raise UsageError("--signature needs a key to check it with", hint="add --public-key KEY.pub")
