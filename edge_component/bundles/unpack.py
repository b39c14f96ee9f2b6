"""Look into a handed-over zip, then unpack it into a staging folder, trusting nothing in it.

The failures this exists for: names that climb out of the folder, links, a bomb of a few kilobytes that fills the disk, a
thousand entries, a name given twice (one verified, the other loaded), headers that lie about sizes. So names must be
plain relative paths, entries plain files, and every byte is counted as it is written, whatever the headers say.

It is done in two visits. :func:`preview` writes nothing: it reads the directory and the two small files that say what
the rest has to be, wherever in the archive they lie, so that two gigabytes that nobody has signed cost neither time nor
room. :func:`unpack` then writes what is listed, and nothing else. What becomes of the archive between the visits costs
nothing but the activation: each file is held against the list as it is written.

The archive itself is read with as little trust: only a plain file is opened (a FIFO would be waited for, for ever), and
its directory is measured before ``zipfile`` reads it whole into this process's memory. Entries are stored or deflated,
nothing else: ``zipfile`` bounds what it inflates, but unpacks bzip2 and LZMA without any bound, so that 600 bytes took
1.2 GB before a signature was looked at (measured).

Every file is fsynced before unpacking returns; digests are taken from the bytes as they are written, so that nothing is
read twice. The staging folder is the caller's, and the caller removes it when this raises.
"""

import errno
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from edge_component.bundles.verification import FoundFile
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import MANIFEST_FILE, SIGNATURE_FILE
from edge_component.durable import FILE_MODE, sync_directory
from edge_component.errors import ActivationDeadlineError, ArchiveError, StoreError, StoreFullError, TamperedError

CHUNK_BYTES = 1_048_576
NAME_CHARS_MAX = 200
DIRECTORY_BYTES_MAX = 262_144
"""Of the zip's central directory; 66 entries with long names and comments take less."""
END_RECORD = struct.Struct("<4s4H2LH")
"""End of central directory: signature, two disk numbers, entries here, entries in all, size, offset, comment's length."""
END_SIGNATURE, ZIP64_SIGNATURE = b"PK\5\6", b"PK\6\7"
ZIP64_LOCATOR_BYTES = 20
COMMENT_BYTES_MAX = 65_535
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Caps on what an archive may hold.

    Attributes:
        entries_max: files, the manifest and the signature included.
        bytes_max: sum of the unpacked sizes.
        ratio_max: unpacked over packed size of one entry.
    """

    entries_max: int = LIMITS.bundle_files_max + 2
    bytes_max: int = LIMITS.bundle_bytes_max
    ratio_max: int = 200


@dataclass(frozen=True, slots=True)
class Preview:
    """What an archive says of itself.

    Attributes:
        sizes_bytes: of every file by its path, as the directory has it.
        manifest, signature: these two files' content, ``None`` where there is no such file; of one that is larger than it
            may be, no more than shows that.
    """

    sizes_bytes: Mapping[str, int]
    manifest: bytes | None
    signature: bytes | None


def preview(archive: Path, limits: UnpackLimits | None = None) -> Preview:
    """Look, and write nothing.

    Raises:
        ArchiveError: not a zip, or one whose directory breaks a rule; the message names the entry.
        StoreError: it cannot be read.
    """
    with _told_of(archive), open_archive(archive) as opened:
        sizes_bytes = {entry.filename: entry.file_size for entry in _plain_files(opened, limits or UnpackLimits())}

        def content(name: str, bytes_max: int) -> bytes | None:
            if name not in sizes_bytes:
                return None
            with opened.open(name) as file:
                return file.read(bytes_max + 1)

        return Preview(
            sizes_bytes,
            content(MANIFEST_FILE, LIMITS.manifest_bytes_max),
            content(SIGNATURE_FILE, LIMITS.signature_bytes_max),
        )


def unpack(
    archive: Path,
    folder: Path,
    listed: Mapping[str, FoundFile],
    limits: UnpackLimits | None = None,
    in_time: Callable[[], bool] = lambda: True,
) -> None:
    """Write the listed files beneath ``folder``.

    Args:
        archive: the zip.
        folder: exists and is empty.
        listed: what there must be, by its path.
        limits: caps; the defaults are the contract's.
        in_time: asked between chunks; unpacking ends when it says no.

    Raises:
        ArchiveError: not a zip, or one that breaks a rule; the message names the entry.
        TamperedError: a file is not there, or not as it is listed.
        ActivationDeadlineError: ``in_time`` said no.
        StoreFullError, StoreError: the disk refused.
    """
    caps = limits or UnpackLimits()
    with _told_of(archive):
        with open_archive(archive) as opened:
            entries = {entry.filename: entry for entry in _plain_files(opened, caps)}
            _Unpacking(opened, folder, caps, in_time).write_all(entries, listed)
        sync_directory(folder)


@contextmanager
def _told_of(archive: Path) -> Iterator[None]:
    """What reading the archive and writing its files raises, as ours."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{archive.name}: {str(error) or 'it ends too early'}") from error
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise ArchiveError(f"{archive.name}: two entries want the same place") from error
    except FileNotFoundError as error:
        raise ArchiveError(f"there is no {archive}", "Hand over the path of the bundle's zip.") from error
    except OSError as error:
        raise store_error(error, f"unpacking {archive.name}") from error


@contextmanager
def open_archive(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The zip, once it is known to be a plain file with a small directory of entries that can be read within bounds.

    Raises:
        ArchiveError: it is not.
        OSError, zipfile.BadZipFile, UnicodeDecodeError: as from :class:`zipfile.ZipFile`.
    """
    try:
        descriptor = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise ArchiveError(f"no file can be named {str(archive)[:80]!r}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError(f"{archive.name} is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as opened:
            for entry in opened.infolist():
                _check_entry(entry)
            yield opened


def _check_directory(file: IO[bytes]) -> None:
    """Find the end record where ``zipfile`` does: at the very end, else the last one before a comment."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(size_bytes - END_RECORD.size - COMMENT_BYTES_MAX - ZIP64_LOCATOR_BYTES, 0))
    tail = file.read()
    at = len(tail) - END_RECORD.size
    if not (tail[at:].startswith(END_SIGNATURE) and tail.endswith(b"\0\0")):
        at = tail.rfind(END_SIGNATURE)
    if at < 0 or len(tail) - at < END_RECORD.size:
        return  # no zip: zipfile says so
    if tail[max(at - ZIP64_LOCATOR_BYTES, 0) : at].startswith(ZIP64_SIGNATURE):
        raise ArchiveError("it is a zip64 archive; a bundle is too small to need one")
    directory_bytes = END_RECORD.unpack_from(tail, at)[5]
    if directory_bytes > DIRECTORY_BYTES_MAX:
        raise ArchiveError(f"its directory takes {directory_bytes} bytes; at most {DIRECTORY_BYTES_MAX} are read")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if entry.compress_type not in METHODS:
        raise ArchiveError(
            f"an entry is packed by method {entry.compress_type}; only stored and deflated ones are read"
        )
    if entry.header_offset < 0:  # zipfile would seek there
        raise ArchiveError("an entry begins before the file does")


def store_error(error: OSError, doing: str) -> StoreError:
    """The typed form of a disk's refusal."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(f"no room left while {doing}")
    return StoreError(f"{doing} failed: {error.strerror or error}")


def _plain_files(opened: zipfile.ZipFile, caps: UnpackLimits) -> list[zipfile.ZipInfo]:
    # ZipInfo.is_dir() looks at the last character of the name, and an empty name has none (Python 3.11).
    entries = [entry for entry in opened.infolist() if not entry.filename.endswith("/")]
    if len(opened.infolist()) > caps.entries_max:
        raise ArchiveError(f"{len(opened.infolist())} entries; at most {caps.entries_max} are allowed")
    for entry in opened.infolist():
        _check_name(entry.filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f"{entry.filename} is not a plain file")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise ArchiveError("a name is given twice")
    if sum(entry.file_size for entry in entries) > caps.bytes_max:
        raise ArchiveError(f"more than {caps.bytes_max} bytes")
    return entries


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and str(path) == name.rstrip("/") and name.isprintable()
    if not plain or name in ("", ".") or "\\" in name or len(name) > NAME_CHARS_MAX:
        raise ArchiveError(f"the name {name[:80]!r} is not a plain relative path")


class _Unpacking:
    """One archive being written; counts the bytes of all its entries together."""

    def __init__(self, opened: zipfile.ZipFile, folder: Path, caps: UnpackLimits, in_time: Callable[[], bool]) -> None:
        self._opened = opened
        self._folder = folder
        self._caps = caps
        self._in_time = in_time
        self._left_bytes = caps.bytes_max

    def write_all(self, entries: Mapping[str, zipfile.ZipInfo], listed: Mapping[str, FoundFile]) -> None:
        for path, file in listed.items():
            entry = entries.get(path)
            if entry is None or entry.file_size != file.size_bytes:
                raise TamperedError(f"{path} is not in the archive as it was a moment ago")
            found = self._write(entry)
            if found != file:
                raise TamperedError(f"{path} is not the file that was signed (SHA-256 {found.sha256[:12]}…)")

    def _write(self, entry: zipfile.ZipInfo) -> FoundFile:
        path = self._folder / entry.filename
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise ArchiveError(f"{entry.filename} would leave the bundle")
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            os.fdopen(os.open(path, flags, FILE_MODE), "wb", buffering=0) as target,
            self._opened.open(entry) as source,
        ):
            found = self._copy(entry, source, target)
            os.fsync(target.fileno())
        return found

    def _copy(self, entry: zipfile.ZipInfo, source: IO[bytes], target: IO[bytes]) -> FoundFile:
        digest = hashlib.sha256()
        size_bytes = 0
        while chunk := source.read(CHUNK_BYTES):
            size_bytes += len(chunk)
            self._left_bytes -= len(chunk)
            if self._left_bytes < 0:
                raise ArchiveError(f"more than {self._caps.bytes_max} bytes")
            if size_bytes > max(entry.compress_size, 1) * self._caps.ratio_max:
                raise ArchiveError(f"{entry.filename} grows more than {self._caps.ratio_max}-fold: a bomb")
            if not self._in_time():
                raise ActivationDeadlineError("the deadline passed while the bundle was unpacked")
            digest.update(chunk)
            _write_whole(target, chunk)
        return FoundFile(digest.hexdigest(), size_bytes)


def _write_whole(target: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[target.write(view) :]
