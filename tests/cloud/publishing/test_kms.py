"""Keys in KMS: made once, signing what the reference verifier accepts, and named when they are absent or of another kind."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud.aws.kms import KeyManagement
from cloud.aws.session import translated
from cloud.errors import InvalidInputError, NotFoundError
from cloud.publishing.errors import SigningKeyError, StatementTooLargeError
from cloud.publishing.keys import create_kms_key, signer_for
from cloud.publishing.signing import (
    KmsSigner,
    is_signed_by,
    pre_authentication_encoding,
    sign_files,
    statement,
)
from tests.cloud.publishing.conftest import Aws


def test_a_key_is_made_once_and_kept(aws: Aws) -> None:
    service = KeyManagement(aws.session)
    first = create_kms_key(service, "alias/twice")
    second = create_kms_key(service, "twice")
    assert (first.is_new, second.is_new) == (True, False)
    assert first.name == second.name == "kms:alias/twice"
    assert first.public_key_pem == second.public_key_pem


def test_kms_signs_what_its_public_key_verifies(aws: Aws) -> None:
    signer = signer_for(aws.key, aws.session)
    document = sign_files(signer, "weather", {"model.onnx": "0" * 64})
    assert is_signed_by(document, signer.public_key_pem())


def test_an_absent_key_is_named_with_the_command_that_makes_one(aws: Aws) -> None:
    with pytest.raises(NotFoundError, match="alias/absent") as caught:
        signer_for("kms:alias/absent", aws.session).public_key_pem()
    assert "edgewright keys create" in caught.value.remedy


def test_a_key_of_another_kind_is_refused(aws: Aws) -> None:
    client = aws.session.client("kms")
    key_id = client.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    with pytest.raises(SigningKeyError, match="is not ECC_NIST_P256"):
        signer_for(f"kms:{key_id}", aws.session).public_key_pem()


def test_a_disabled_key_is_refused_as_input_not_as_a_crash() -> None:
    # moto signs with disabled keys, so AWS's answer is given here.
    answer = {"Error": {"Code": "DisabledException", "Message": "the key is disabled"}}
    with pytest.raises(InvalidInputError, match="signing: the key is disabled"), translated("signing"):
        raise ClientError(answer, "Sign")  # type: ignore[arg-type]


KEY_ARN = "arn:aws:kms:eu-west-1:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def test_a_key_is_asked_for_in_the_region_that_its_arn_names(aws: Aws) -> None:
    """KMS answers NotFoundException for an ARN of another region, whoever asks."""
    elsewhere = aws.session.client("kms", "eu-west-1")
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for key in (KEY_ARN, KEY_ARN.replace("key/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/models")):
        with Stubber(elsewhere) as stub:
            stub.add_response("get_public_key", {"PublicKey": der}, {"KeyId": key})
            signer_for(f"kms:{key}", aws.session).public_key_pem()
            stub.add_response("sign", {"Signature": b"signature"}, {
                "KeyId": key, "Message": b"m", "MessageType": "RAW", "SigningAlgorithm": "ECDSA_SHA_256",
            })  # fmt: skip
            assert signer_for(f"kms:{key}", aws.session).sign(b"m") == b"signature"


def test_a_key_that_was_just_made_is_waited_for(aws: Aws) -> None:
    """KMS is eventually consistent: a key or alias that was just made may be unknown for some seconds."""
    client, lag = aws.session.client("kms"), {"CreateAlias": 2, "GetPublicKey": 1, "Sign": 2}

    def refuse(model: Any, **_: Any) -> None:
        if lag.get(model.name):
            lag[model.name] -= 1
            raise ClientError({"Error": {"Code": "NotFoundException", "Message": "not found"}}, model.name)

    client.meta.events.register("before-call.kms", refuse)
    paused: list[float] = []
    service = KeyManagement(aws.session, paused.append)
    made = create_kms_key(service, "late")
    assert (made.is_new, len(paused)) == (True, 3)
    document = sign_files(KmsSigner(service, "alias/late"), "weather", {"model.onnx": "0" * 64})
    assert is_signed_by(document, made.public_key_pem)
    assert len(paused) == 5
    client.meta.events.unregister("before-call.kms", refuse)


def test_two_who_make_the_same_key_at_once_end_with_one(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    client = aws.session.client("kms")
    first = create_kms_key(KeyManagement(aws.session), "race")
    before = {one["KeyId"] for one in client.list_keys()["Keys"]}
    monkeypatch.setattr(KeyManagement, "find_key", lambda *_: None)  # it was made after the second had looked
    second = create_kms_key(KeyManagement(aws.session), "race")
    assert (second.is_new, second.public_key_pem) == (False, first.public_key_pem)
    (unused,) = {one["KeyId"] for one in client.list_keys()["Keys"]} - before
    assert client.describe_key(KeyId=unused)["KeyMetadata"]["KeyState"] == "PendingDeletion", (
        "no key is paid for unused"
    )


@pytest.mark.parametrize("name", ["alias/edgewright", KEY_ARN])
def test_a_key_in_kms_without_its_prefix_is_not_taken_for_a_file(aws: Aws, name: str) -> None:
    with pytest.raises(SigningKeyError, match=name) as caught:
        signer_for(name, aws.session)
    assert f"kms:{name}" in caught.value.remedy


@pytest.mark.parametrize("code", ["InvalidArnException", "InvalidKeyUsageException", "InvalidAliasNameException"])
def test_what_kms_says_of_a_name_that_is_none_is_input(code: str) -> None:
    with pytest.raises(InvalidInputError, match=code), translated("signing"):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "Sign")


def test_the_largest_statement_that_kms_signs_is_signed_and_one_byte_more_is_not(aws: Aws) -> None:
    def padded(size_bytes: int) -> bytes:
        digests = {f"{index:02}-{'x' * 40}": "0" * 64 for index in range(18)}
        empty = len(pre_authentication_encoding(statement("", digests)))
        return sign_files(signer, "s" * (size_bytes - empty), digests)

    signer = signer_for(aws.key, aws.session)
    assert is_signed_by(padded(4096), signer.public_key_pem())
    with pytest.raises(StatementTooLargeError, match="takes 4097 bytes"):
        padded(4097)
