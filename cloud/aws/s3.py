"""S3, as far as Edgewright needs it: put, get, list, and a write that never overwrites.

Objects that devices download are immutable and named by their digest (:meth:`ObjectStore.put_immutable`): overwriting
one would make every device that resolves the component later fail its checksum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import ClientError

from cloud.aws.session import AwsSession, error_code, translated
from cloud.digests import file_sha256
from cloud.errors import ConflictError, DeniedError, InvalidInputError, NotFoundError
from cloud.s3_uri import S3Uri


class ObjectStore:
    """Reads and writes whole objects. Every error is one of ``cloud.errors``."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("s3")

    def put_bytes(self, uri: S3Uri, data: bytes) -> None:
        """Write an object, whatever was there."""
        with translated(f"writing {uri}"):
            self._client.put_object(Bucket=uri.bucket, Key=uri.key, Body=data)

    def put_file(self, uri: S3Uri, path: Path) -> None:
        """Write a file's bytes, in parts where it is large, whatever was there."""
        with _local_file(path), translated(f"uploading {path.name} to {uri}"):
            self._client.upload_file(str(path), uri.bucket, uri.key)

    def put_immutable(self, uri: S3Uri, path: Path) -> bool:
        """Write a file under a key that names its digest; ``False`` if the very same object was there already.

        Raises:
            ConflictError: the key holds other bytes; nothing was written.
        """
        size_bytes, digest = path.stat().st_size, file_sha256(path)
        try:
            with translated(f"looking for {uri}"):
                head = self._client.head_object(Bucket=uri.bucket, Key=uri.key)
        except NotFoundError:
            with translated(f"uploading {path.name} to {uri}"):
                self._client.upload_file(
                    str(path), uri.bucket, uri.key, ExtraArgs={"Metadata": {"edgewright-sha256": digest}}
                )
            return True
        if head["ContentLength"] != size_bytes or head["Metadata"].get("edgewright-sha256") != digest:
            raise ConflictError(
                f"{uri} exists with other bytes", "Publish under a new version; artifacts never change."
            )
        return False

    def put_new(self, uri: S3Uri, data: bytes) -> bool:
        """Write an object only if the key is free, atomically; ``False`` if it is taken, whatever it holds."""
        try:
            with translated(f"writing {uri}"):
                self._client.put_object(Bucket=uri.bucket, Key=uri.key, Body=data, IfNoneMatch="*")
        except ConflictError:
            return False
        return True

    def get_bytes(self, uri: S3Uri) -> bytes:
        """Read an object."""
        with translated(f"reading {uri}"):
            data: bytes = self._client.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()
        return data

    def get_file(self, uri: S3Uri, path: Path) -> Path:
        """Read an object into a file, whose folder is made."""
        with _local_file(path), translated(f"downloading {uri}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._client.download_file(uri.bucket, uri.key, str(path))
        return path

    def list(self, prefix: S3Uri) -> Iterator[S3Uri]:
        """Every object below a prefix, in key order."""
        with translated(f"listing {prefix}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=prefix.bucket, Prefix=prefix.key):
                for entry in page.get("Contents", ()):
                    yield S3Uri(prefix.bucket, entry["Key"])

    def ensure_bucket(self, bucket: str, region: str, account: str = "", owner: str = "") -> None:
        """Make the bucket unless it is there already; with an ``account``, unless it is that account's.

        ``owner`` is another account that keeps the bucket for this one: it must be there, and be that account's.

        Raises:
            ConflictError: it is another's, who could read what we write.
            NotFoundError: ``owner`` has none of that name.
        """
        expected = {"ExpectedBucketOwner": owner or account} if owner or account else {}
        try:
            with translated(f"looking for bucket {bucket}"):
                self._client.head_bucket(Bucket=bucket, **expected)
        except DeniedError as error:
            raise ConflictError(
                f"bucket {bucket} is not account {owner or account}'s, or these credentials may not look at it",
                "Bucket names are the whole world's: choose one of your own with EDGEWRIGHT_BUCKET; or, where another account "
                "of yours keeps it, name that account with EDGEWRIGHT_BUCKET_OWNER.",
            ) from error
        except NotFoundError as error:
            if owner not in ("", account):
                raise NotFoundError(
                    f"there is no bucket {bucket}",
                    f"Make it in account {owner}, with a policy that lets this one use it.",
                ) from error
            self._make_bucket(bucket, region)

    def _make_bucket(self, bucket: str, region: str) -> None:
        placement = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with translated(f"creating bucket {bucket}"):
            try:
                self._client.create_bucket(Bucket=bucket, **placement)
            except ClientError as error:
                if error_code(error) != "BucketAlreadyOwnedByYou":  # by a set-up that runs beside this one
                    raise


@contextmanager
def _local_file(path: Path) -> Iterator[None]:
    """This machine's side of a transfer: a file that cannot be read or written is the user's to mend, not AWS's."""
    try:
        yield
    except OSError as error:
        raise InvalidInputError(
            f"{error.filename or path}: {error.strerror or error}",
            "Check the path, its permissions and the free space.",
        ) from error
