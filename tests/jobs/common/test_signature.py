"""Signatures: made and checked by the OpenSSF package, over every file of an artefact."""

import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from support.faults.calling import complaint, fine
from support.tiny import copied, exported

from dpt_deploy.artifact.store import sidecar_path, signature_path
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.jobs.common.signature import SignatureMismatchError, check_signature, sign_artifact
from dpt_deploy.jobs.verify.verify import verify_artifact

pytestmark = pytest.mark.needs("torch", "onnx", "model_signing")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs, ours and that of a stranger: ``name.pem`` and ``name.pub``."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "strange"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture
def signed(tmp_path, keys):
    path = copied(exported("tiny-vit"), tmp_path).path
    assert sign_artifact(path, keys / "ours.pem") == signature_path(path)
    return path


def test_a_signed_artefact_passes_and_nothing_else_is_left_in_the_folder(signed, keys):
    check_signature(signed, keys / "ours.pub")
    others = {path.name for path in signed.parent.iterdir()} - {signature_path(signed).name}
    assert others == {signed.name, sidecar_path(signed).name, f"{signed.name}.golden.npz"}


def test_the_package_of_openssf_accepts_the_signature(signed, keys):
    call = [sys.executable, "-m", "model_signing", "verify", "key", "--ignore_unsigned_files"]
    place = ["--signature", signature_path(signed), "--public_key", keys / "ours.pub", signed.parent]
    done = subprocess.run([*call, *place], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_changed_byte_in_any_file_is_noticed_before_anything_is_read(signed, keys, monkeypatch):
    monkeypatch.setattr(
        "dpt_deploy.jobs.common.signature.open_artifact", lambda *_args, **_options: pytest.fail("read")
    )
    for path in (signed, sidecar_path(signed), signed.with_name(f"{signed.name}.golden.npz")):
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(SignatureMismatchError, match="not what was signed"):
            check_signature(signed, keys / "ours.pub")
        path.write_bytes(before)


def test_a_missing_file_is_noticed(signed, keys):
    signed.with_name(f"{signed.name}.golden.npz").unlink()
    with pytest.raises(SignatureMismatchError):
        check_signature(signed, keys / "ours.pub")


def test_another_key_is_noticed(signed, keys):
    with pytest.raises(SignatureMismatchError, match="Key mismatch"):
        check_signature(signed, keys / "strange.pub")


def test_the_signature_of_another_artefact_does_not_cover_this_one(signed, keys, tmp_path):
    other = copied(exported("tiny-conv"), tmp_path).path
    theirs = sign_artifact(other, keys / "ours.pem")
    check_signature(other, keys / "ours.pub")
    with pytest.raises(SignatureMismatchError, match="does not cover tiny-vit"):
        check_signature(signed, keys / "ours.pub", signature=theirs)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"dsseEnvelope": 1}'])
def test_a_damaged_signature_is_a_bad_file(content, signed, keys):
    signature_path(signed).write_bytes(content)
    with pytest.raises((BadFileError, SignatureMismatchError)):
        check_signature(signed, keys / "ours.pub")


def test_a_changed_statement_is_noticed(signed, keys):
    bundle = json.loads(signature_path(signed).read_text())
    payload = bundle["dsseEnvelope"]["payload"]
    bundle["dsseEnvelope"]["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
    signature_path(signed).write_text(json.dumps(bundle))
    with pytest.raises((BadFileError, SignatureMismatchError)):
        check_signature(signed, keys / "ours.pub")


@pytest.mark.parametrize("name", ["ours.pem", "none.pub", "text.pub"])
def test_a_key_that_cannot_be_used_is_a_bad_file(name, signed, keys):
    (keys / "text.pub").write_text("no key")
    with pytest.raises(BadFileError):
        check_signature(signed, keys / name)


def test_without_a_signature_the_check_fails(signed, keys):
    signature_path(signed).unlink()
    with pytest.raises(BadFileError, match="has no signature"):
        check_signature(signed, keys / "ours.pub")


@pytest.mark.needs("onnxruntime")
def test_verify_checks_the_signature_and_leaves_the_sidecar_as_it_is(signed, keys):
    before = sidecar_path(signed).read_bytes()
    found = verify_artifact(signed, golden=True, public_key=keys / "ours.pub")
    assert found.comparison.passed
    verify_artifact(signed, golden=True)  # without a key too
    assert sidecar_path(signed).read_bytes() == before
    check_signature(signed, keys / "ours.pub")


def test_the_command_line_exits_with_5_for_a_changed_byte(signed, keys, capsys):
    fine(capsys, "inspect", signed, "--public-key", keys / "ours.pub")
    with signed.open("r+b") as stream:
        stream.seek(100)
        byte = stream.read(1)
        stream.seek(100)
        stream.write(bytes([byte[0] ^ 1]))
    for command in ("inspect", "verify"):
        assert "not what was signed" in complaint(capsys, 5, command, signed, "--public-key", keys / "ours.pub")


def test_sign_prints_the_path_of_the_signature(tmp_path, keys, capsys):
    path = copied(exported("tiny-vit"), tmp_path).path
    fine(capsys, "sign", path, "--private-key", keys / "ours.pem", "--signature", tmp_path / "mine.sig")
    check_signature(path, keys / "ours.pub", signature=tmp_path / "mine.sig")


def test_a_public_key_cannot_sign(tmp_path, keys, capsys):
    path = copied(exported("tiny-vit"), tmp_path).path
    complaint(capsys, 4, "sign", path, "--private-key", keys / "ours.pub")
    assert not signature_path(path).exists()
