"""A file that can be replaced on a full disk, because the blocks for its next version are kept beside it.

The failure this exists for: a disk that something else has filled up, and an operator who is refused the way back to the
model that worked, because writing that down takes a block. (Giving a reserve back to the file system and asking for it
again is a race with whatever fills the disk; so the reserve's own blocks are written to, and none is ever free.)

::

    <name>                 the content, old or new as a whole
    <name>.reserve         room for the next version; its content means nothing
    .<name>.old            between two renames: the content before, about to be the reserve

The reserve is written through, fsynced and renamed to the file's name; the file that it replaces becomes the next reserve,
so that there may be as many ways back as are asked for. A crash or a power cut in between leaves the old content or the new,
and what was left between two names becomes the reserve again. What has two names is never written to: it may be the
content itself; nor is anything before the folder's names are durable, since after a power cut they may be older ones.

A disk that was full before there was a reserve has given none: :attr:`ReservedFile.problem` says so until it has.

It helps where bytes are overwritten in place (ext4, XFS, tmpfs). A file system that writes elsewhere (btrfs, UBIFS) may
refuse even so, and then everything stays as it was. One writer at a time; not a store, and not durable.py, which replaces
files where there is room.
"""

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from edge_component.durable import replace_file, sync_directory

log = logging.getLogger(__name__)

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
RESERVE_BYTES_MIN = 16_384
"""Or twice the content, where that is more."""
STAT_BLOCK_BYTES = 512
"""What ``st_blocks`` counts, whatever the file system's blocks are."""


class ReservedFile:
    """See the module's text."""

    def __init__(self, path: Path) -> None:
        """Address the file; nothing is written before :meth:`reserve` or :meth:`replace`."""
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._old = path.with_name(f".{path.name}.old")
        self.problem = ""
        """A sentence while there is no reserve that would hold what the file holds, as of the last :meth:`reserve`."""

    def replace(self, content: bytes, *, may_use_reserve: bool) -> None:
        """Give the file this content, atomically and durably; in the reserve, if that is allowed and there is no room.

        Raises:
            OSError: the disk refused; the file still has its old content.
        """
        try:
            replace_file(self._path, content)
        except OSError as error:
            if not may_use_reserve or error.errno not in NO_ROOM:
                raise
            self._replace_in_reserve(content, error)
            log.warning("%s was written into its reserve: the disk is full", self._path.name)
        self.reserve()

    def reserve(self) -> None:
        """Have room for a version that is twice as large as the present one; a disk that gives none may be asked again."""
        wanted_bytes = max(RESERVE_BYTES_MIN, 2 * self._content_bytes())
        try:
            self._end_what_was_begun()
            if self._reserved_bytes() < wanted_bytes:
                replace_file(self._reserve, os.urandom(wanted_bytes))  # zeros might be compressed, or left out
        except OSError as error:
            self._note_refusal(error)
        else:
            self.problem = ""

    def lacks_room(self) -> bool:
        """Whether a full disk would refuse even a version that is no larger than the present one; reads only."""
        return self._room() < self._content_bytes()

    def _note_refusal(self, error: OSError) -> None:
        """Less than was wanted is no problem while it is enough for what the file holds."""
        problem = f"{self._path.name} has no reserve: {error.strerror or error}" if self.lacks_room() else ""
        if problem and not self.problem:
            log.warning("%s; a full disk may keep it from being changed", problem)
        self.problem = problem

    def _end_what_was_begun(self) -> None:
        """What a crash has left between two names is the reserve, unless there is one."""
        if _look(self._old) is not None and _look(self._reserve) is None:
            self._old.replace(self._reserve)
        self._old.unlink(missing_ok=True)

    def _content_bytes(self) -> int:
        found = _look(self._path, names_count_max=2)
        return found.st_size if found else 0

    def _reserved_bytes(self) -> int:
        found = _look(self._reserve)
        return found.st_size if found else 0

    def _room(self) -> int:
        """What can be written into the reserve without a new block: to the end of its last one."""
        found = _look(self._reserve)
        return max(found.st_size, found.st_blocks * STAT_BLOCK_BYTES) if found else 0

    def _replace_in_reserve(self, content: bytes, refusal: OSError) -> None:
        if self._room() < len(content):
            raise refusal
        sync_directory(self._path.parent)
        _overwrite(self._reserve, content)
        self._old.unlink(missing_ok=True)
        if self._path.exists():
            os.link(self._path, self._old)
        self._reserve.replace(self._path)
        with suppress(OSError):  # the content is new; a reserve is made again
            self._old.replace(self._reserve)
        sync_directory(self._path.parent)


def _look(path: Path, names_count_max: int = 1) -> os.stat_result | None:
    """``None`` for what is not there, cannot be looked at, or goes by more names than that."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found if found.st_nlink <= names_count_max else None


def _overwrite(path: Path, content: bytes) -> None:
    """In the blocks that it has, then cut to size; durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
