"""Signatures: the reference verifier accepts ours, and rejects any other byte."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cloud.digests import file_sha256
from cloud.publishing.errors import KeyExistsError, SigningKeyError, StatementTooLargeError
from cloud.publishing.keys import create_key_file, signer_for
from cloud.publishing.signing import (
    KmsSigner,
    PemSigner,
    is_signed_by,
    key_hint,
    pre_authentication_encoding,
    sign_files,
    statement,
)

FILES = {"manifest.json": b"{}", "model.onnx": b"\x08\x07" * 500, "golden.npz": b"PK", "baseline.json": b"[]"}


@pytest.fixture
def signed_bundle(tmp_path: Path) -> tuple[Path, Path]:
    """A folder as a device unpacks it, and the public key."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    signer = PemSigner.generate()
    digests = {path.name: file_sha256(path) for path in folder.iterdir()}
    (folder / "model.sig").write_bytes(sign_files(signer, "weather", digests))
    public_key = tmp_path / "public.pem"
    public_key.write_bytes(signer.public_key_pem())
    return folder, public_key


def reference_verify(folder: Path, public_key: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    options = ["--signature", str(folder / "model.sig"), "--public_key", str(public_key)]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def test_the_reference_verifier_accepts_the_bundle_under_any_folder_name(signed_bundle: tuple[Path, Path]) -> None:
    folder, public_key = signed_bundle
    renamed = folder.rename(folder.with_name("elsewhere"))
    verdict = reference_verify(renamed, public_key)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("name", [*FILES, "model.sig"])
def test_the_reference_verifier_rejects_one_changed_byte(signed_bundle: tuple[Path, Path], name: str) -> None:
    folder, public_key = signed_bundle
    content = bytearray((folder / name).read_bytes())
    # In the signature's JSON, change a byte within the signed payload rather than a brace around it.
    where = content.index(b'"payload":"') + 40 if name == "model.sig" else len(content) // 2
    content[where] ^= 0x01
    (folder / name).write_bytes(content)
    assert reference_verify(folder, public_key).returncode != 0


def test_the_reference_verifier_rejects_an_added_file(signed_bundle: tuple[Path, Path]) -> None:
    folder, public_key = signed_bundle
    (folder / "extra.so").write_bytes(b"x")
    assert reference_verify(folder, public_key).returncode != 0


def test_the_reference_verifier_rejects_another_key(signed_bundle: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = signed_bundle
    other = tmp_path / "other.pem"
    other.write_bytes(PemSigner.generate().public_key_pem())
    assert reference_verify(folder, other).returncode != 0


def test_a_signature_names_its_key_and_fits_no_other() -> None:
    signer, other = PemSigner.generate(), PemSigner.generate()
    document = sign_files(signer, "weather", {"model.onnx": "0" * 64})
    assert json.loads(document)["verificationMaterial"]["publicKey"]["hint"] == key_hint(signer.public_key_pem())
    assert is_signed_by(document, signer.public_key_pem())
    assert not is_signed_by(document, other.public_key_pem())


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.binary(min_size=32, max_size=32), min_size=1, max_size=8))
def test_a_statement_depends_on_its_files_and_not_on_their_order(files: dict[str, bytes]) -> None:
    digests = {name: digest.hex() for name, digest in files.items()}
    backwards = dict(reversed(list(digests.items())))
    assert statement("m", digests) == statement("m", backwards)
    resources = json.loads(statement("m", digests))["predicate"]["resources"]
    assert [(entry["name"], entry["digest"]) for entry in resources] == sorted(digests.items())


def test_the_pre_authentication_encoding_is_dsse() -> None:
    # The example of the DSSE protocol page, with our payload type.
    assert pre_authentication_encoding(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"


def test_a_statement_beyond_what_kms_signs_is_refused_for_either_key() -> None:
    digests = {f"file-{index:03}.bin": "0" * 64 for index in range(40)}
    with pytest.raises(StatementTooLargeError, match=r"40 files takes \d+ bytes; KMS signs at most 4096"):
        sign_files(PemSigner.generate(), "weather", digests)


class OtherKeyService:
    """A key service that signs with another key than it shows."""

    def public_key_der(self, key: str) -> bytes:
        pem = PemSigner.generate().public_key_pem().splitlines()
        return base64.b64decode(b"".join(pem[1:-1]))

    def sign(self, key: str, message: bytes) -> bytes:
        return PemSigner.generate().sign(message)


def test_a_key_service_that_answers_for_another_key_is_found() -> None:
    with pytest.raises(SigningKeyError, match="does not fit"):
        sign_files(KmsSigner(OtherKeyService(), "alias/x"), "weather", {"model.onnx": "0" * 64})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        (b"not a key", "not an unencrypted PEM"),
        ("rsa", "not a P-256 key"),
        ("p384", "not a P-256 key"),
        ("encrypted", "not an unencrypted PEM"),
    ],
)
def test_an_absent_or_wrong_key_file_is_named(tmp_path: Path, content: bytes | str | None, problem: str) -> None:
    path = tmp_path / "key.pem"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_bytes(other_kind_of_key(content))
    with pytest.raises(SigningKeyError, match=problem) as caught:
        PemSigner.load(path)
    assert str(path) in str(caught.value)
    assert "edgewright keys create" in caught.value.remedy


def other_kind_of_key(kind: str) -> bytes:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP384R1())
    locked = s.BestAvailableEncryption(b"secret") if kind == "encrypted" else s.NoEncryption()
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked)


def test_a_made_key_file_is_private_used_and_never_overwritten(tmp_path: Path) -> None:
    made = create_key_file(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert PemSigner.load(tmp_path / "key.pem").public_key_pem() == made.public_key_pem
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(KeyExistsError, match="exists"):
        create_key_file(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before
    with pytest.raises(SigningKeyError, match="cannot be written"):
        create_key_file(tmp_path / "absent" / "key.pem")
    shutil.rmtree(tmp_path)


def test_a_key_name_without_kms_is_a_file(tmp_path: Path) -> None:
    create_key_file(tmp_path / "key.pem")
    assert isinstance(signer_for(str(tmp_path / "key.pem"), None), PemSigner)  # type: ignore[arg-type]
