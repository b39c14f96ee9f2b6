"""Where a compilation comes from: a folder on this machine, or what a Processing job left below an S3 prefix."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from cloud.compilation.result import COMPILATION_FILE
from cloud.publishing.errors import CompilationIncompleteError
from cloud.s3_uri import S3Uri


class PrefixReader(Protocol):
    """The reading half of ``cloud.aws.s3.ObjectStore``."""

    def list(self, prefix: S3Uri) -> Iterator[S3Uri]:
        """Every object below a prefix."""

    def get_file(self, uri: S3Uri, path: Path) -> Path:
        """Read an object into a file, whose folder is made."""


def fetch_compilation(prefix: S3Uri, reader: PrefixReader, folder: Path) -> Path:
    """Copy everything below ``prefix`` into ``folder``; returns the folder that holds the compilation.

    Raises:
        CompilationIncompleteError: there is none, more than one, or a key that climbs out of the prefix.
    """
    base = prefix.key.rstrip("/") + "/" if prefix.key else ""
    for uri in reader.list(S3Uri(prefix.bucket, base)):
        name = PurePosixPath(uri.key[len(base) :])
        if ".." in name.parts or name.is_absolute():
            raise CompilationIncompleteError(f"{uri} climbs out of {prefix}", "Remove that object.")
        reader.get_file(uri, folder / name)
    found = compilation_folder(folder)
    if not (found / COMPILATION_FILE).exists():
        raise CompilationIncompleteError(
            f"there is no {COMPILATION_FILE}, or more than one, below {prefix}",
            "Give the S3 prefix that `edgewright compile` printed.",
        )
    return found


def compilation_folder(given: Path) -> Path:
    """The folder itself, or the only folder in it that holds a compilation (jobs like to nest their outputs)."""
    if (given / COMPILATION_FILE).exists():
        return given
    nested = sorted(given.rglob(COMPILATION_FILE)) if given.is_dir() else []
    return nested[0].parent if len(nested) == 1 else given
