"""Signatures of artefacts, in the format of the OpenSSF package ``model-signing``.

A signature covers every file of the artefact, the sidecar included. It is checked before any of them is read, so that
nothing from an unknown source is deserialised. ``model_signing verify key --ignore_unsigned_files`` checks it as well.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpt_deploy.artifact.store import Artifact, finish_commit, open_artifact, sidecar_path, signature_path
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.errors import BadFileError, ParityError
from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.core.optional import extra

with extra("sign", purpose="signatures"):
    from model_signing import signing, verifying


class SignatureMismatchError(ParityError):
    """The files of an artefact are not those that the owner of the key has signed."""


def sign_artifact(path: Path | str, private_key: Path | str, signature: Path | str | None = None) -> Path:
    """Sign the artefact ``path`` and return the path of the signature.

    Args:
        path: the main file; its hashes are checked first.
        private_key: PEM file of an elliptic-curve key without a password.
        signature: file to write; None: next to the artefact, with ``.sig`` added to the name.

    Raises:
        BadFileError: the artefact is damaged, or the key cannot be used.
        ResourceError: the signature cannot be written.
    """
    path, private_key = Path(path), Path(private_key)
    signature = None if signature is None else Path(signature)
    artifact = open_artifact(path)
    target = signature or signature_path(path)
    with _key_errors(private_key):
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
    with atomic_path(target) as temporary, write_errors(target), _folder_of(artifact) as folder:
        signer.sign(folder, temporary)
    return target


def check_signature(path: Path | str, public_key: Path | str, signature: Path | str | None = None) -> None:
    """Check that every file of the artefact ``path`` is the one that was signed.

    The signature is checked before a file of the artefact is read.

    Args:
        path: the main file.
        public_key: PEM file of the signer's public key.
        signature: file of the signature; None: the one next to the artefact.

    Raises:
        BadFileError: there is no signature, it is damaged, or the key cannot be used.
        SignatureMismatchError: the signature is of another key, or a file was changed, removed or is not covered.
    """
    path, public_key = Path(path), Path(public_key)
    signature = None if signature is None else Path(signature)
    finish_commit(path)  # now, for nothing may replace what has been checked
    source = signature or signature_path(path)
    if not source.is_file():
        raise BadFileError(f"{path} has no signature {source}", hint="sign it: dpt-deploy sign, or name its signature")
    with _key_errors(public_key):
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    verifier.set_ignore_unsigned_files(True)  # other artefacts may lie in the folder
    try:
        verifier.verify(path.parent, source)
    except ValueError as exc:
        raise SignatureMismatchError(
            f"{path} is not what was signed: {' '.join(str(exc).split())[:300]}",
            hint="do not use it; get the artefact and the key again from their source",
        ) from exc
    except Exception as exc:
        raise BadFileError(f"{source} is no signature that can be read", hint="get it again, or sign again") from exc
    _check_covered(path, _signed_names(source))


def _check_covered(path: Path, signed: set[str]) -> None:
    """Raise unless every file of the artefact is among the ``signed`` ones; only then is its sidecar read."""
    needed = {path.name, sidecar_path(path).name}
    if needed <= signed:
        needed |= {payload.name for payload in open_artifact(path, check_hashes=False).sidecar.payloads}
    if missing := sorted(needed - signed):
        raise SignatureMismatchError(
            f"the signature does not cover {', '.join(missing)}", hint="sign the artefact again: dpt-deploy sign"
        )


def _signed_names(signature: Path) -> set[str]:
    """File names in a signature that has been checked (a DSSE envelope around an in-toto statement)."""
    envelope = json.loads(signature.read_bytes())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    return {entry["name"] for entry in statement["predicate"]["resources"]}


@contextmanager
def _folder_of(artifact: Artifact) -> Iterator[Path]:
    """Yield a folder that holds the files of the artefact and nothing else: the package signs folders."""
    path = artifact.path
    names = [payload.name for payload in artifact.sidecar.payloads]
    with scratch_folder(path.parent) as scratch:
        folder = scratch / "artifact"
        folder.mkdir()
        _link((path.with_name(name), folder / name) for name in (*names, sidecar_path(path).name))
        yield folder


def _link(pairs: Iterable[tuple[Path, Path]]) -> None:
    for source, target in pairs:
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, target)


@contextmanager
def _key_errors(path: Path) -> Iterator[None]:
    """Turn every failure to read a key inside the block into a :class:`BadFileError`."""
    try:
        yield
    except OSError as exc:
        raise BadFileError(f"cannot read the key {path}: {exc.strerror or exc}", hint="check the path") from exc
    except Exception as exc:  # the package raises many kinds
        raise BadFileError(
            f"{path} is no elliptic-curve key in PEM form that can be used here",
            hint="make a pair: openssl ecparam -name prime256v1 -genkey -noout -out key.pem; "
            "openssl ec -in key.pem -pubout -out key.pub",
        ) from exc
