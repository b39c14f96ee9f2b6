"""A job's data in and out of S3: prefixes to folders, folders to prefixes, archives, and checkpoints while it runs.

The failure this exists for: a channel that is silently empty because its prefix was misspelt. It is an error here, as it
is on SageMaker. It speaks S3 like any client and knows nothing of moto. Not thread-safe: one for each job.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from simulator.errors import SimulatorError


class JobDataError(SimulatorError):
    """Input that is not there or cannot be read, or output that cannot be written; the message is the job's reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """``s3://bucket/prefix``."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> "Place":
        """Split a URI.

        Raises:
            JobDataError: it is none of S3's.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise JobDataError(f"{uri!r} is not an S3 URI (s3://bucket/prefix)")
        return cls(bucket, prefix)

    def __truediv__(self, name: str) -> "Place":
        return Place(self.bucket, f"{self.prefix.rstrip('/')}/{name}".lstrip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


class JobStorage:
    """Reads and writes whole objects."""

    def __init__(self, s3: Any) -> None:  # noqa: ANN401 - boto3 builds client classes at run time
        """``s3`` is a boto3 client."""
        self._s3 = s3

    def download(self, place: Place, folder: Path, *, may_be_empty: bool = False) -> int:
        """Every object below a prefix into a folder (made), by its name below the prefix; how many there were.

        Raises:
            JobDataError: no object has the prefix (unless ``may_be_empty``), no such bucket, or a name that leaves the
                folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        count = 0
        try:
            for key in self._keys(place):
                path = folder / relative_name(place.prefix, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(place.bucket, key, str(path))
                count += 1
        except (Boto3Error, ClientError, BotoCoreError, OSError) as error:
            raise JobDataError(f"cannot download {place}: {error}") from error
        if count == 0 and not may_be_empty:
            raise JobDataError(f"no object has the prefix {place}")
        return count

    def upload_folder(self, folder: Path, place: Place) -> int:
        """Every file below a folder to a prefix; how many there were."""
        files = sorted(files_below(folder))
        for path in files:
            self.upload_file(path, place / path.relative_to(folder).as_posix())
        return len(files)

    def upload_file(self, path: Path, place: Place) -> None:
        """One file to one object.

        Raises:
            JobDataError: it could not be written.
            FileNotFoundError: there is no such file (any more).
        """
        try:
            self._s3.upload_file(str(path), place.bucket, place.prefix)
        except FileNotFoundError:
            raise
        except (Boto3Error, ClientError, BotoCoreError, OSError) as error:
            raise JobDataError(f"cannot upload {place}: {error}") from error

    def upload_archive(self, folder: Path, archive: Path, place: Place) -> None:
        """A folder's content as one ``.tar.gz``, its names relative to the folder."""
        with tarfile.open(archive, "w:gz") as stream:
            for path in sorted(folder.iterdir()):
                stream.add(path, arcname=path.name)
        self.upload_file(archive, place)

    def _keys(self, place: Place) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.prefix)
        for page in pages:
            yield from (entry["Key"] for entry in page.get("Contents", ()) if not entry["Key"].endswith("/"))


class Checkpoints:
    """A folder kept in step with a prefix: restored before the job, written back whenever a file has changed."""

    def __init__(self, storage: JobStorage, folder: Path, place: Place) -> None:
        """Nothing is moved yet."""
        self._storage = storage
        self._folder = folder
        self._place = place
        self._seen: dict[Path, tuple[int, int]] = {}

    def restore(self) -> int:
        """What an earlier job left; how many files."""
        count = self._storage.download(self._place, self._folder, may_be_empty=True)
        self._seen = {path: _stamp(path) for path in files_below(self._folder)}
        return count

    def sync(self) -> int:
        """Upload what changed since the last time; how many files. Files that were deleted stay in S3."""
        count = 0
        for path in sorted(files_below(self._folder)):
            try:
                stamp = _stamp(path)
                if self._seen.get(path) == stamp:
                    continue
                self._storage.upload_file(path, self._place / path.relative_to(self._folder).as_posix())
            except FileNotFoundError:  # the job renamed it meanwhile; its new name is met next time
                continue
            self._seen[path] = stamp
            count += 1
        return count


def relative_name(prefix: str, key: str) -> PurePosixPath:
    """Where an object of a prefix goes within the folder: an exact key by its last name, others below the prefix.

    Raises:
        JobDataError: the name would leave the folder.
    """
    if key == prefix:
        name = PurePosixPath(key).name
    elif key.startswith(prefix.rstrip("/") + "/"):
        name = key[len(prefix.rstrip("/")) + 1 :]
    else:
        name = key[prefix.rfind("/") + 1 :]
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts or not path.parts:
        raise JobDataError(f"object {key!r} cannot be a file of the job")
    return path


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files at any depth."""
    return (path for path in folder.rglob("*") if path.is_file())


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
