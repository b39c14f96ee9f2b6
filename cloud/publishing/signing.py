"""Signatures in the OpenSSF Model Signing format: what ``model_signing verify key`` accepts.

The failure this exists for: an artifact that anybody with write access to a bucket could have replaced. A signature is a
sigstore bundle (JSON) around a DSSE envelope around an in-toto statement that names each file with its SHA-256; it is
made with a P-256 key, held in a PEM file or in AWS KMS. It proves who made the bytes, not that they are the right ones
now: against rollback, freeze and mix-and-match, see the manifest, which is one of the signed files.

KMS signs at most 4,096 bytes whole (``MessageType=RAW``). The limit holds for both kinds of key, so that a release can
move from one to the other. The format: https://github.com/sigstore/model-transparency, predicate
``https://model_signing/signature/v1.0``; the envelope: https://github.com/secure-systems-lab/dsse.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from cloud.publishing.errors import SigningKeyError, StatementTooLargeError
from edge_component.contracts.codec import to_bytes
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import SIGNATURE_FILE

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
KEY_REMEDY = "Make one with `edgewright keys create --file KEY.pem`, or give kms:<key id, alias/name or ARN>."


class Signer(Protocol):
    """Something that holds a P-256 private key."""

    def public_key_pem(self) -> bytes:
        """The public half, as SubjectPublicKeyInfo in PEM."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256 of ``message`` (at most 4,096 bytes), DER-encoded."""


class KeyService(Protocol):
    """The two calls of AWS KMS that signing needs; ``cloud.aws.kms`` has them."""

    def public_key_der(self, key: str) -> bytes:
        """SubjectPublicKeyInfo of an asymmetric signing key."""

    def sign(self, key: str, message: bytes) -> bytes:
        """ECDSA_SHA_256 over the whole message, DER-encoded."""


class PemSigner:
    """A key held in this process: from a PEM file, or a fresh one for tests."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Take a P-256 key."""
        self._key = key

    @classmethod
    def generate(cls) -> "PemSigner":
        """A new key, held in memory alone."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: Path) -> "PemSigner":
        """Read an unencrypted P-256 private key.

        Raises:
            SigningKeyError: no such file, not a PEM private key, encrypted, or of another kind.
        """
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            raise SigningKeyError(f"signing key {path} cannot be read: {error.strerror}", KEY_REMEDY) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SigningKeyError(f"{path} is not an unencrypted PEM private key: {error}", KEY_REMEDY) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise SigningKeyError(f"{path} is not a P-256 key", KEY_REMEDY)
        return cls(key)

    def private_key_pem(self) -> bytes:
        """The private key, unencrypted PKCS #8 in PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_key_pem(self) -> bytes:
        """See :class:`Signer`."""
        return _as_pem(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """See :class:`Signer`."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


class KmsSigner:
    """A key that never leaves AWS KMS."""

    def __init__(self, service: KeyService, key: str) -> None:
        """``key``: id, ARN or ``alias/…``. Nothing is contacted until a method is called."""
        self._service = service
        self._key = key

    def public_key_pem(self) -> bytes:
        """See :class:`Signer`.

        Raises:
            SigningKeyError: the key is not on P-256.
        """
        key = load_der_public_key(self._service.public_key_der(self._key))
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise SigningKeyError(
                f"KMS key {self._key} is not ECC_NIST_P256", "Make one with `edgewright keys create --alias NAME`."
            )
        return _as_pem(key)

    def sign(self, message: bytes) -> bytes:
        """See :class:`Signer`."""
        return self._service.sign(self._key, message)


def sign_files(signer: Signer, subject: str, digests: Mapping[str, str]) -> bytes:
    """``model.sig`` over files given by name and SHA-256 in hex; ``subject`` names the model for people.

    The new signature is checked with the public key before it is returned: a key service that answers for another key
    is found here, not on a device.

    Raises:
        StatementTooLargeError: more files than one statement can name.
        SigningKeyError: the key cannot be used, or its signature does not fit its public key.
    """
    payload = statement(subject, digests)
    message = pre_authentication_encoding(payload)
    if len(message) > LIMITS.signed_statement_bytes_max:
        raise StatementTooLargeError(
            f"the statement over {len(digests)} files takes {len(message)} bytes; "
            f"KMS signs at most {LIMITS.signed_statement_bytes_max}",
            "Put fewer files into the bundle, or give them shorter names.",
        )
    public_key = signer.public_key_pem()
    document = _bundle(payload, signer.sign(message), key_hint(public_key))
    if not is_signed_by(document, public_key):
        raise SigningKeyError("the signature does not fit the key's own public half", "Check which key signs.")
    return document


def statement(subject: str, digests: Mapping[str, str]) -> bytes:
    """The in-toto statement: canonical JSON, files in the order of their names."""
    ordered = sorted(digests.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    return to_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": subject, "digest": {"sha256": root}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [SIGNATURE_FILE],
                },
                "resources": [
                    {"name": name, "digest": digest, "algorithm": "sha256"} for name, digest in ordered
                ],
            },
        }
    )  # fmt: skip


def pre_authentication_encoding(payload: bytes) -> bytes:
    """DSSE's PAE: what the signature really covers."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_hint(public_key_pem: bytes) -> str:
    """How a signature names its key: SHA-256 of the public key's PEM, in hex."""
    return hashlib.sha256(public_key_pem).hexdigest()


def is_signed_by(signature_document: bytes, public_key_pem: bytes) -> bool:
    """Whether a ``model.sig`` of ours was made with this key. Says nothing about the files it names."""
    key = load_pem_public_key(public_key_pem)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    envelope = json.loads(signature_document)["dsseEnvelope"]
    message = pre_authentication_encoding(base64.b64decode(envelope["payload"]))
    try:
        key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _bundle(payload: bytes, signature: bytes, hint: str) -> bytes:
    return to_bytes(
        {
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
            },
        }
    )


def _as_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
