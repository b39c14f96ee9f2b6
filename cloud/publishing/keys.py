"""Which signing key a name means, and making new ones. The only place that knows how settings spell a key."""

import os
from dataclasses import dataclass
from pathlib import Path

from cloud.aws.kms import KeyManagement
from cloud.aws.session import AwsSession
from cloud.publishing.errors import KeyExistsError, SigningKeyError
from cloud.publishing.signing import KmsSigner, PemSigner, Signer

KMS_PREFIX = "kms:"
KMS_WITHOUT_PREFIX = ("arn:", "alias/")
"""What people copy out of AWS."""

PRIVATE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that now exists; ``name`` is what ``--key`` and ``EDGEWRIGHT_SIGNING_KEY`` take."""

    name: str
    public_key_pem: bytes
    is_new: bool


def signer_for(name: str, session: AwsSession) -> Signer:
    """``kms:`` before a key id, ``alias/<name>`` or the ARN of either; or the path of a PEM file.

    Raises:
        SigningKeyError: the file is absent or not a P-256 private key. (A KMS key is only contacted when used.)
    """
    if name.startswith(KMS_WITHOUT_PREFIX) and not Path(name).exists():
        raise SigningKeyError(f"{name} names a key in KMS, without saying so", f"Write {KMS_PREFIX}{name}.")
    if name.startswith(KMS_PREFIX):
        return KmsSigner(KeyManagement(session), name.removeprefix(KMS_PREFIX))
    return PemSigner.load(Path(name))


def kms_name(alias: str) -> str:
    """How settings spell the key behind ``<alias>`` or ``alias/<alias>``."""
    return f"{KMS_PREFIX}alias/{alias.removeprefix('alias/')}"


def create_key(name: str, session: AwsSession) -> MadeKey:
    """Make the key that ``name`` means, in KMS or in a file.

    Raises:
        SigningKeyError: a KMS key that is named by its id or ARN, which only KMS itself can give; or no file can be written.
        KeyExistsError: the file exists; it was not touched.
    """
    if not name.startswith(KMS_PREFIX):
        return create_key_file(Path(name))
    if not name.startswith(f"{KMS_PREFIX}alias/"):
        raise SigningKeyError(
            f"{name} names a key by its id or ARN, which KMS gives", "Name an alias: kms:alias/<name>."
        )
    return create_kms_key(KeyManagement(session), name.removeprefix(KMS_PREFIX))


def create_kms_key(service: KeyManagement, alias: str) -> MadeKey:
    """A P-256 key in KMS under ``alias/<alias>``; the one that is there already, if there is one."""
    short = alias.removeprefix("alias/")
    is_new = service.find_key(short) is None and service.create_signing_key(short)
    signer = KmsSigner(service, f"alias/{short}")
    return MadeKey(kms_name(short), service.once_known(signer.public_key_pem), is_new=is_new)


def create_key_file(path: Path) -> MadeKey:
    """A P-256 key in a new PEM file that only its owner may read.

    Raises:
        KeyExistsError: the file exists; it was not touched.
        SigningKeyError: the folder is absent or not writable.
    """
    signer = PemSigner.generate()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    except FileExistsError as error:
        raise KeyExistsError(
            f"{path} exists", "A key is never overwritten: choose another path, or remove it yourself."
        ) from error
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be written: {error.strerror}", "Choose another folder.") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(signer.private_key_pem())
    return MadeKey(str(path), signer.public_key_pem(), is_new=True)
