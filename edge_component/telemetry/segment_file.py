"""One segment of the log, as a file that is only ever appended to.

The failure this exists for: a failed write that leaves half a record in the middle of a file that is then appended to,
or a failed ``fdatasync`` that is simply tried again (after which Linux reports success for pages that it has lost). An
append here either is durable as a whole, or is taken back, or the file is given up for appending.

Not thread-safe: the log's lock guards it. ``OSError`` passes through, since the log decides what to do about it.
"""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge_component.durable import FILE_MODE, sync_directory

_NAME = re.compile(r"([0-9]{10})\.segment")


@dataclass(slots=True)
class Segment:
    """What the log remembers of a segment file.

    Attributes:
        number: from the file's name; grows by one with each file.
        size_bytes: where its last whole, durable record ends.
        pending_count: records that are not done with.
        last_sequence: of its last record; 0 if it has none.
    """

    number: int
    path: Path
    size_bytes: int = 0
    pending_count: int = 0
    last_sequence: int = 0


class AppendingFile:
    """The one segment that is open for appending."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        """Use :meth:`create` or :meth:`reopen`."""
        self._descriptor = descriptor
        self._size_bytes = size_bytes

    @classmethod
    def create(cls, path: Path) -> Self:
        """Begin a new file, durably; raises ``FileExistsError`` rather than writing into another's."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        try:
            sync_directory(path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor, 0)

    @classmethod
    def reopen(cls, path: Path, size_bytes: int) -> Self:
        """Go on after ``size_bytes``; a torn tail beyond it is cut off, durably."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != size_bytes:
                os.ftruncate(descriptor, size_bytes)
                os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor, size_bytes)

    def append(self, content: bytes) -> None:
        """Write; durable only after :meth:`sync`. After an ``OSError`` call :meth:`take_back`."""
        view = memoryview(content)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self, content_bytes: int) -> None:
        """Make the last append durable. After an ``OSError`` nothing is known about it, and the file must be closed."""
        os.fdatasync(self._descriptor)
        self._size_bytes += content_bytes

    def take_back(self) -> None:
        """Undo an append that failed before its sync."""
        os.ftruncate(self._descriptor, self._size_bytes)

    def close(self) -> None:
        """Close; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def segment_path(directory: Path, number: int) -> Path:
    """``<ten digits>.segment``, so that names sort as numbers do."""
    return directory / f"{number:010d}.segment"


def segment_numbers(directory: Path) -> list[int]:
    """Numbers of the segments in a folder, rising; other files are nobody's business."""
    return sorted(int(match[1]) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name)))


def hold_alone(directory: Path) -> int:
    """Lock a folder, made if needed, until the returned descriptor is closed or the process dies.

    Raises:
        OSError: it cannot be made, or another log has it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BlockingIOError(error.errno, "another process has it open") from error
    return descriptor
