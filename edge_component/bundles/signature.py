"""Verify an OpenSSF Model Signing bundle (``model.sig``) with ``cryptography`` alone.

The failure this exists for: a model that somebody else made, or changed on the way. The file is a Sigstore bundle
(media type ``application/vnd.dev.sigstore.bundle.v0.3+json``) around a DSSE envelope around an in-toto statement, whose
predicate lists every file with its digest. Rules, each of which the code below keeps:

1. the envelope's payload type is in-toto's, and it has exactly one signature;
2. a key of the trust folder verifies that signature over the DSSE pre-authentication encoding: the bytes as signed,
   before any of them is parsed. The bundle's own key hint chooses nothing;
3. the statement is in-toto v1 with the predicate ``https://model_signing/signature/v1.0``, method ``files``, SHA-256,
   symlinks not allowed;
4. the subject's digest is the SHA-256 over the resources' digests in order: the root of what was signed;
5. no resource is named twice, and no name leaves the bundle.

The statement's ``ignore_paths`` are *not* honoured: whoever verifies compares all files but ``model.sig`` itself
(``model_signing verify`` does the same when it is not told to ignore unsigned files).

Pure: bytes and keys in, :class:`SignedFiles` out. It does not look at the files (verification.py does) and says nothing
about age, platform or name (ditto). Sources: sigstore/model-transparency 1.1, secure-systems-lab/dsse v1.0.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_component.contracts.codec import DIGEST_PATTERN, Document, Fields, from_bytes
from edge_component.contracts.errors import ContractError, MalformedError
from edge_component.contracts.limits import LIMITS
from edge_component.errors import NoTrustError, SignatureError, UntrustedKeyError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"

_HASHES: Mapping[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
"""By the curve's size, as the format prescribes."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that may sign models for this device; ``source`` is its file, for messages."""

    key: ec.EllipticCurvePublicKey
    source: str


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What a valid signature vouches for: SHA-256 by path, and which key did."""

    digests: Mapping[str, str]
    signed_by: str


def load_trust(folder: Path) -> tuple[TrustedKey, ...]:
    """Every ``*.pem`` of a folder, sorted by name.

    Raises:
        NoTrustError: there is none, or one of them is not a NIST elliptic-curve public key.
    """
    keys = tuple(_load_key(path) for path in sorted(folder.glob("*.pem")))
    if not keys:
        raise NoTrustError(f"no public key (*.pem) in {folder}")
    return keys


def verify_signature(signature: bytes, trust: Sequence[TrustedKey]) -> SignedFiles:
    """Check a ``model.sig`` against the trusted keys.

    Raises:
        SignatureError: not such a bundle, or what it signs is inconsistent.
        UntrustedKeyError: no trusted key made this signature over these bytes.
    """
    try:
        payload, signed = _open_envelope(from_bytes(signature, LIMITS.signature_bytes_max))
        signer = _signer(pre_authentication_encoding(PAYLOAD_TYPE, payload), signed, trust)
        return SignedFiles(_read_statement(from_bytes(payload, LIMITS.signature_bytes_max)), signer)
    except ContractError as error:
        raise SignatureError(f"model.sig: {error}") from error


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: what is signed, so that neither type nor length can be shifted."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


def root_digest(digests: Sequence[str]) -> str:
    """SHA-256 over the raw digests in order, as hex; the statement's subject."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _load_key(path: Path) -> TrustedKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm, OSError) as error:
        raise NoTrustError(f"{path.name} is not a public key in PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size not in _HASHES:
        raise NoTrustError(f"{path.name} is not a P-256, P-384 or P-521 public key")
    return TrustedKey(key, path.name)


def _open_envelope(bundle: Document) -> tuple[bytes, bytes]:
    envelope = Fields(bundle).nested("dsseEnvelope", Fields)
    if envelope.text("payloadType") != PAYLOAD_TYPE:
        raise MalformedError(f"is not {PAYLOAD_TYPE}", "dsseEnvelope.payloadType")
    payload = _decoded(envelope.text("payload"), "dsseEnvelope.payload")
    signatures = envelope.items("signatures", lambda value, where: _decoded(Fields(value, where).text("sig"), where))
    if len(signatures) != 1:
        raise MalformedError(f"holds {len(signatures)} signatures, not one", "dsseEnvelope.signatures")
    return payload, signatures[0]


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("is not base64", where) from error


def _signer(message: bytes, signature: bytes, trust: Sequence[TrustedKey]) -> str:
    for trusted in trust:
        try:
            trusted.key.verify(signature, message, ec.ECDSA(_HASHES[trusted.key.curve.key_size]))
        except InvalidSignature:
            continue
        return trusted.source
    raise UntrustedKeyError(
        f"none of the {len(trust)} trusted keys ({', '.join(key.source for key in trust)}) made this signature"
    )


def _read_statement(statement: Document) -> Mapping[str, str]:
    fields = Fields(statement)
    if fields.text("_type") != STATEMENT_TYPE:
        raise MalformedError(f"is not {STATEMENT_TYPE}", "_type")
    if fields.text("predicateType") != PREDICATE_TYPE:
        raise MalformedError(f"is not {PREDICATE_TYPE}", "predicateType")
    subjects = fields.items("subject", _subject_digest)
    predicate = fields.nested("predicate", Fields)
    predicate.nested("serialization", _check_serialization)
    resources = predicate.items("resources", _resource)
    if subjects != (root_digest([digest for _, digest in resources]),):
        raise MalformedError("is not the root of the resources' digests", "subject")
    digests = dict(resources)
    if len(digests) != len(resources):
        raise MalformedError("names a file twice", "predicate.resources")
    return digests


def _subject_digest(value: object, where: str) -> str:
    return Fields(value, where).nested("digest", Fields).text("sha256", pattern=DIGEST_PATTERN)


def _check_serialization(value: object, where: str) -> None:
    fields = Fields(value, where)
    method, hash_type = fields.text("method"), fields.text("hash_type")
    if (method, hash_type, fields.boolean("allow_symlinks")) != ("files", "sha256", False):
        raise MalformedError("must be whole files, SHA-256, without symlinks", where)


def _resource(value: object, where: str) -> tuple[str, str]:
    fields = Fields(value, where)
    name = fields.text("name")
    if fields.text("algorithm") != "sha256":
        raise MalformedError("must be sha256", f"{where}.algorithm")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name == ".":
        raise MalformedError(f"{name!r} is not a plain path within the bundle", f"{where}.name")
    return name, fields.text("digest", pattern=DIGEST_PATTERN)
