"""Reproducible zip files: the same entries always give the same bytes.

The failure this exists for: an archive made twice from the same files differs in times, modes, order or compressor, so
that its digest changes, a re-run looks like other content under the same version, and devices fail their checksum.
Here names are sorted, times and modes fixed, and nothing is compressed (models and wheels hardly shrink, and the output
of a compressor is no promise across versions of zlib).

It does not choose what goes in; see bundle.py and runtime_artifact.py. Not for concurrent writers of one path.
"""

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cloud.digests import file_sha256
from cloud.errors import InvalidInputError

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold."""

MODE_FILE = 0o100644
COPY_BYTES = 1 << 20


def write_archive(path: Path, entries: Mapping[str, Path | bytes]) -> str:
    """Write a zip of ``entries`` (name within the archive to a file or its bytes); returns its SHA-256 in hex.

    The file appears under its name only when it is whole. Files are streamed; none is held in memory.

    Raises:
        InvalidInputError: an entry's name is absolute, climbs out of the archive or is not in its simplest form.
    """
    for name in entries:
        _check_name(name)
    unfinished = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(entries):
            _add(archive, name, entries[name])
    unfinished.replace(path)
    return file_sha256(path)


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, whatever system writes it: the modes below are read by that rule
    entry.external_attr = MODE_FILE << 16
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return
    entry.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)


def _check_name(name: str) -> None:
    simplest = PurePosixPath(name)
    if not name or simplest.is_absolute() or ".." in simplest.parts or str(simplest) != name or "\\" in name:
        raise InvalidInputError(f"{name!r} cannot be a name within an archive", "Use a plain relative path.")
