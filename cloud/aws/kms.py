"""AWS KMS, as far as signing needs it: an asymmetric P-256 key that signs whole messages and never leaves the service.

``MessageType=RAW`` only: KMS hashes the message itself, so no two sides can disagree about what was hashed. A key that is
named by its ARN is asked for in the ARN's own region: KMS knows no key of another, whoever asks.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from cloud.aws.session import AwsSession, translated
from cloud.errors import ConflictError, DeniedError, NotFoundError

KEY_SPEC = "ECC_NIST_P256"
SIGNING_ALGORITHM = "ECDSA_SHA_256"
KNOWN_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""A key or alias that was just made takes KMS some seconds to be known everywhere (developer guide, "eventual consistency")."""

UNUSED_KEY_DAYS = 7
"""The shortest that KMS waits before it deletes a key."""

Answer = TypeVar("Answer")


class KeyManagement:
    """Makes keys, reads public keys, signs. ``key`` is a key id, ``alias/<name>`` or the ARN of either throughout."""

    def __init__(self, session: AwsSession, sleep: Callable[[float], None] = time.sleep) -> None:
        """Nothing is contacted until a method is called."""
        self._session = session
        self._sleep = sleep

    def public_key_der(self, key: str) -> bytes:
        """SubjectPublicKeyInfo, DER.

        Raises:
            NotFoundError: no such key or alias.
        """
        try:
            with translated(f"reading the public key of KMS key {key}"):
                der: bytes = self._client(key).get_public_key(KeyId=key)["PublicKey"]
        except NotFoundError as error:
            raise NotFoundError(
                str(error), "Make it with `edgewright keys create --alias NAME`, or choose another with --key."
            ) from error
        return der

    def sign(self, key: str, message: bytes) -> bytes:
        """ECDSA over SHA-256 of at most 4,096 bytes; DER. For a key whose public half was read, so that it exists."""

        def signed() -> bytes:
            with translated(f"signing with KMS key {key}"):
                signature: bytes = self._client(key).sign(
                    KeyId=key, Message=message, MessageType="RAW", SigningAlgorithm=SIGNING_ALGORITHM
                )["Signature"]
            return signature

        return self.once_known(signed)

    def create_signing_key(self, alias: str) -> bool:
        """Make a P-256 key under ``alias/<alias>``; ``False`` if somebody else made that alias meanwhile: theirs is kept.

        Raises:
            ConflictError: so it is, and the key that was made here cannot be removed again.
        """
        client = self._session.client("kms")
        with translated(f"creating a signing key for alias/{alias}"):
            key_id: str = client.create_key(
                KeySpec=KEY_SPEC, KeyUsage="SIGN_VERIFY", Description=f"Edgewright model signing: {alias}"
            )["KeyMetadata"]["KeyId"]

        def named() -> None:
            with translated(f"naming the key alias/{alias}"):
                client.create_alias(AliasName=f"alias/{alias}", TargetKeyId=key_id)

        try:
            self.once_known(named)
        except ConflictError:
            self._remove(key_id, alias)
            return False
        return True

    def find_key(self, alias: str) -> str | None:
        """The key id behind ``alias/<alias>``, or ``None``."""
        try:
            with translated(f"looking for alias/{alias}"):
                key_id: str = self._session.client("kms").describe_key(KeyId=f"alias/{alias}")["KeyMetadata"]["KeyId"]
        except NotFoundError:
            return None
        return key_id

    def once_known(self, ask: Callable[[], Answer]) -> Answer:
        """Ask after something that exists, though KMS may not know it everywhere yet."""
        for pause_s in KNOWN_PAUSES_S:
            try:
                return ask()
            except NotFoundError:
                self._sleep(pause_s)
        return ask()

    def _remove(self, key_id: str, alias: str) -> None:
        def scheduled() -> None:
            with translated(f"removing KMS key {key_id}, which nobody uses"):
                self._session.client("kms").schedule_key_deletion(KeyId=key_id, PendingWindowInDays=UNUSED_KEY_DAYS)

        try:
            self.once_known(scheduled)
        except DeniedError as error:
            raise ConflictError(
                f"alias/{alias} was made by somebody else meanwhile, and KMS key {key_id}, which was made for it, is of no use",
                f"Remove it (aws kms schedule-key-deletion --key-id {key_id}), then run the same command again.",
            ) from error

    def _client(self, key: str) -> Any:  # noqa: ANN401 - boto3 builds client classes at run time
        parts = key.split(":")
        return self._session.client("kms", parts[3] if parts[0] == "arn" and len(parts) > 3 else "")
