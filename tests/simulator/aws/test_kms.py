"""Signing as the publisher needs it: P-256, RAW, at most 4,096 bytes, verified without AWS."""

import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key


@pytest.fixture(scope="module")
def key_id(client):
    made = client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    return made["KeyMetadata"]["KeyId"]


def sign(client, key_id: str, message: bytes, kind: str = "RAW") -> bytes:
    return client("kms").sign(
        KeyId=key_id, Message=message, MessageType=kind, SigningAlgorithm="ECDSA_SHA_256"
    )["Signature"]  # fmt: skip


@pytest.mark.parametrize("size_bytes", [1, 3_073, 4_096])
def test_a_raw_message_up_to_the_limit_is_signed_and_verified_by_cryptography_alone(client, key_id, size_bytes):
    message = bytes(size_bytes)
    public_key = load_der_public_key(client("kms").get_public_key(KeyId=key_id)["PublicKey"])
    public_key.verify(sign(client, key_id, message), message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public_key.verify(sign(client, key_id, message), message + b"x", ec.ECDSA(hashes.SHA256()))


def test_one_byte_more_is_refused(client, key_id):
    with pytest.raises(ClientError, match="less than or equal to 4096") as caught:
        sign(client, key_id, bytes(4_097))
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_digest_which_would_be_hashed_twice_is_refused(client, key_id):
    with pytest.raises(ClientError, match="MessageType DIGEST") as caught:
        sign(client, key_id, bytes(32), "DIGEST")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
