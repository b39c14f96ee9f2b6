"""Signatures: what the reference tool signs we accept, what anybody bends we refuse."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edge_component.bundles.signature import TrustedKey, load_trust, verify_signature
from edge_component.errors import NoTrustError, SignatureError, UntrustedKeyError
from tests.edge_component.bundle_factory import BundleFactory, new_key, sign, sign_statement, statement_of

FILES = {"manifest.json": b"{}", "model.onnx": b"graph", "sub/part.bin": b"\0" * 10}
KEY = new_key()
TRUST = (TrustedKey(KEY.public_key(), "test.pem"),)


def write_private_key(path: Path) -> None:
    path.write_bytes(
        KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def model_signing(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def write_files(folder: Path) -> None:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_what_model_signing_signs_is_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_files(folder)
    write_private_key(tmp_path / "key.pem")
    signed = model_signing(
        "sign", "key", folder, "--private_key", tmp_path / "key.pem", "--signature", folder / "model.sig"
    )
    assert signed.returncode == 0, signed.stderr
    files = verify_signature((folder / "model.sig").read_bytes(), TRUST)
    assert set(files.digests) == set(FILES)
    assert files.signed_by == "test.pem"


def test_what_the_tests_sign_is_accepted_by_model_signing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_files(folder)
    (folder / "model.sig").write_bytes(sign(FILES, KEY))
    BundleFactory(KEY, tmp_path).write_public_key(tmp_path / "key.pub")
    command = ("verify", "key", folder, "--public_key", tmp_path / "key.pub", "--signature", folder / "model.sig")
    assert model_signing(*command).returncode == 0
    (folder / "model.onnx").write_bytes(b"grapf")
    assert model_signing(*command).returncode != 0


def bent_statement(bend: Callable[[dict[str, Any]], None]) -> bytes:
    statement: dict[str, Any] = dict(statement_of(FILES))
    bend(statement)
    return sign_statement(statement, KEY)


def repeat_a_file(statement: dict[str, Any]) -> None:
    resources = statement["predicate"]["resources"]
    resources.append(resources[0])


def rename_a_file(name: str) -> Callable[[dict[str, Any]], None]:
    def bend(statement: dict[str, Any]) -> None:
        statement["predicate"]["resources"][0]["name"] = name

    return bend


BENT = {
    "another statement type": lambda s: s.update({"_type": "https://in-toto.io/Statement/v0.1"}),
    "another predicate": lambda s: s.update({"predicateType": "https://slsa.dev/provenance/v1"}),
    "two subjects": lambda s: s["subject"].append(s["subject"][0]),
    "no subject": lambda s: s.update({"subject": []}),
    "another root": lambda s: s["subject"][0]["digest"].update({"sha256": "0" * 64}),
    "a changed digest": lambda s: s["predicate"]["resources"][0].update({"digest": "0" * 64}),
    "a file left out": lambda s: s["predicate"]["resources"].pop(),
    "files in another order": lambda s: s["predicate"]["resources"].reverse(),
    "a file twice": repeat_a_file,
    "a climbing name": rename_a_file("../model.onnx"),
    "an absolute name": rename_a_file("/etc/passwd"),
    "an unclean name": rename_a_file("./manifest.json"),
    "shards": lambda s: s["predicate"]["serialization"].update({"method": "shards"}),
    "symlinks allowed": lambda s: s["predicate"]["serialization"].update({"allow_symlinks": True}),
    "another hash": lambda s: s["predicate"]["serialization"].update({"hash_type": "blake2b"}),
    "another algorithm": lambda s: s["predicate"]["resources"][0].update({"algorithm": "md5"}),
    "no predicate": lambda s: s.pop("predicate"),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT.keys())
def test_a_validly_signed_but_inconsistent_statement_is_refused(bend: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(SignatureError):
        verify_signature(bent_statement(bend), TRUST)


def bent_bundle(bend: Callable[[dict[str, Any]], None]) -> bytes:
    bundle: dict[str, Any] = json.loads(sign(FILES, KEY))
    bend(bundle["dsseEnvelope"])
    return json.dumps(bundle).encode()


def flip_payload(envelope: dict[str, Any]) -> None:
    payload = bytearray(base64.b64decode(envelope["payload"]))
    payload[len(payload) // 2] ^= 1
    envelope["payload"] = base64.b64encode(payload).decode()


def test_one_changed_bit_of_the_payload_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(UntrustedKeyError):
        verify_signature(bent_bundle(flip_payload), TRUST)


def test_a_signature_for_another_payload_type_is_refused() -> None:
    with pytest.raises(SignatureError):
        verify_signature(bent_bundle(lambda e: e.update({"payloadType": "text/plain"})), TRUST)


def test_two_signatures_are_refused() -> None:
    with pytest.raises(SignatureError):
        verify_signature(bent_bundle(lambda e: e["signatures"].append(e["signatures"][0])), TRUST)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"dsseEnvelope": 5}', b"\xff\xfe", b"x" * 300_000])
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(SignatureError):
        verify_signature(data, TRUST)


def test_another_key_is_refused_and_a_second_trusted_key_accepted() -> None:
    other = new_key()
    signature = sign(FILES, other)
    with pytest.raises(UntrustedKeyError, match=r"test\.pem"):
        verify_signature(signature, TRUST)
    both = (*TRUST, TrustedKey(other.public_key(), "next.pem"))
    assert verify_signature(signature, both).signed_by == "next.pem"


def test_the_trust_folder_takes_nist_curves_and_says_what_else_it_found(tmp_path: Path) -> None:
    with pytest.raises(NoTrustError, match="no public key"):
        load_trust(tmp_path)
    BundleFactory(ec.generate_private_key(ec.SECP384R1()), tmp_path).write_public_key(tmp_path / "a.pem")
    assert [key.source for key in load_trust(tmp_path)] == ["a.pem"]
    (tmp_path / "b.pem").write_text("not a key")
    with pytest.raises(NoTrustError, match=r"b\.pem"):
        load_trust(tmp_path)
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "b.pem").write_bytes(
        rsa_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(NoTrustError, match="P-256"):
        load_trust(tmp_path)
