"""Whatever boto3 raises leaves ``cloud.aws`` as one of our own errors, and none as a stack trace."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from boto3.exceptions import RetriesExceededError
from botocore.exceptions import ClientError, IncompleteReadError, NoCredentialsError, ReadTimeoutError

from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession, translated
from cloud.errors import ConflictError, DeniedError, EdgewrightError, InvalidInputError, NotFoundError, UnavailableError
from cloud.s3_uri import S3Uri


def answer(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "as it says"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Do"
    )


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (answer("NoSuchBucket", 404), NotFoundError),
        (answer("ConflictException", 409), ConflictError),
        (answer("ValidationException"), InvalidInputError),
        (answer("ThrottlingException"), UnavailableError),
        (answer("SomethingNobodyNamed", 503), UnavailableError),
        (answer("SomethingNobodyNamed", 418), EdgewrightError),
        (answer("AccessDenied", 403), DeniedError),
        (answer("NotImplemented", 501), EdgewrightError),
        (ReadTimeoutError(endpoint_url="http://here"), UnavailableError),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), UnavailableError),
        (RetriesExceededError(OSError("reset")), UnavailableError),
        (NoCredentialsError(), UnavailableError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:40],
)
def test_each_failure_has_its_leaf(raised: Exception, expected: type[EdgewrightError]) -> None:
    with pytest.raises(EdgewrightError) as caught, translated("doing it"):
        raise raised
    assert type(caught.value) is expected
    assert str(caught.value).startswith("doing it: ")


def test_who_is_denied_is_told_where_to_look() -> None:
    with pytest.raises(EdgewrightError) as caught, translated("doing it"):
        raise answer("AccessDenied", 403)
    assert "credentials" in caught.value.remedy


def test_an_upload_into_no_bucket_says_so(session: AwsSession, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    with pytest.raises(NotFoundError, match=r"uploading file to s3://nowhere/file: .*NoSuchBucket"):
        ObjectStore(session).put_file(S3Uri("nowhere", "file"), path)


def test_a_file_that_cannot_be_read_is_named(session: AwsSession, tmp_path: Path) -> None:
    store = ObjectStore(session)
    store.ensure_bucket("bucket", "us-east-1")
    with pytest.raises(InvalidInputError, match="absent"):
        store.put_file(S3Uri("bucket", "key"), tmp_path / "absent")


def test_a_folder_that_cannot_be_written_is_named(session: AwsSession, tmp_path: Path) -> None:
    store = ObjectStore(session)
    store.ensure_bucket("bucket", "us-east-1")
    store.put_bytes(S3Uri("bucket", "key"), b"bytes")
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="a file"):
        store.get_file(S3Uri("bucket", "key"), tmp_path / "a file" / "below")


@pytest.mark.parametrize(("apart_s", "said"), [(240, "s ahead of AWS's"), (-240, "s behind AWS's"), (5, "")])
def test_a_clock_that_is_wrong_is_said(
    session: AwsSession, monkeypatch: pytest.MonkeyPatch, apart_s: float, said: str
) -> None:
    """Devices are judged silent by it; botocore corrects its own signatures without a word."""
    truly = time.time
    monkeypatch.setattr("cloud.aws.session.time", SimpleNamespace(time=lambda: truly() + apart_s))
    with pytest.raises(NotFoundError):
        ObjectStore(session).get_bytes(S3Uri("nowhere", "key"))
    assert said in session.clock_trouble()
    assert bool(session.clock_trouble()) == bool(said)


def test_botocore_does_not_sign_in_c_which_prints_tracebacks_when_an_upload_is_interrupted() -> None:
    script = "import cloud.cli.app; from botocore.compat import HAS_CRT; print(HAS_CRT)"
    environment = {name: value for name, value in os.environ.items() if name != "BOTO_DISABLE_CRT"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, b"False\n"), ended.stderr
