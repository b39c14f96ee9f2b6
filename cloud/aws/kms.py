"""AWS KMS, as far as signing needs it: an asymmetric P-256 key that signs whole messages and never leaves the service.

``MessageType=RAW`` only: KMS hashes the message itself, so no two sides can disagree about what was hashed.
"""

from cloud.aws.session import AwsSession, translated
from cloud.errors import NotFoundError

KEY_SPEC = "ECC_NIST_P256"
SIGNING_ALGORITHM = "ECDSA_SHA_256"


class KeyManagement:
    """Makes keys, reads public keys, signs. ``key`` is a key id, an ARN or ``alias/<name>`` throughout."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("kms")

    def public_key_der(self, key: str) -> bytes:
        """SubjectPublicKeyInfo, DER.

        Raises:
            NotFoundError: no such key or alias.
        """
        try:
            with translated(f"reading the public key of KMS key {key}"):
                der: bytes = self._client.get_public_key(KeyId=key)["PublicKey"]
        except NotFoundError as error:
            raise NotFoundError(
                str(error), "Make it with `edgewright keys create --alias NAME`, or choose another with --key."
            ) from error
        return der

    def sign(self, key: str, message: bytes) -> bytes:
        """ECDSA over SHA-256 of at most 4,096 bytes; DER."""
        with translated(f"signing with KMS key {key}"):
            signature: bytes = self._client.sign(
                KeyId=key, Message=message, MessageType="RAW", SigningAlgorithm=SIGNING_ALGORITHM
            )["Signature"]
        return signature

    def create_signing_key(self, alias: str) -> str:
        """Make a P-256 key under ``alias/<alias>``; returns its key id."""
        with translated(f"creating a signing key for alias/{alias}"):
            key_id: str = self._client.create_key(
                KeySpec=KEY_SPEC, KeyUsage="SIGN_VERIFY", Description=f"Edgewright model signing: {alias}"
            )["KeyMetadata"]["KeyId"]
        with translated(f"naming the key alias/{alias}"):
            self._client.create_alias(AliasName=f"alias/{alias}", TargetKeyId=key_id)
        return key_id

    def find_key(self, alias: str) -> str | None:
        """The key id behind ``alias/<alias>``, or ``None``."""
        try:
            with translated(f"looking for alias/{alias}"):
                key_id: str = self._client.describe_key(KeyId=f"alias/{alias}")["KeyMetadata"]["KeyId"]
        except NotFoundError:
            return None
        return key_id
