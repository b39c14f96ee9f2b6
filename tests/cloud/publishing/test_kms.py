"""Keys in KMS: made once, signing what the reference verifier accepts, and named when they are absent or of another kind."""

import pytest
from botocore.exceptions import ClientError

from cloud.aws.kms import KeyManagement
from cloud.aws.session import translated
from cloud.errors import InvalidInputError, NotFoundError
from cloud.publishing.errors import SigningKeyError
from cloud.publishing.keys import create_kms_key, signer_for
from cloud.publishing.signing import is_signed_by, sign_files
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
