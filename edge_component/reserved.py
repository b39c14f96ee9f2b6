"""A file that can be replaced on a full disk, because the blocks for its next version are kept beside it.

The failure this exists for: a disk that something else has filled up, and an operator who is refused the way back to the
model that worked, because writing that down takes a block. (Giving a reserve back to the file system and asking for it
again is a race with whatever fills the disk; so the reserve's own blocks are written to, and none is ever free.)

::

    <name>                 the content, old or new as a whole
    <name>.reserve         room for the next version; its content means nothing
    .<name>.old            between two renames: the content before, about to be the reserve

The reserve is written through, fsynced and renamed to the file's name; the file that it replaces becomes the next reserve,
so that there may be as many ways back as are asked for. A crash in between costs the reserve at most, which is made again
as soon as the disk gives room. What has two names is never written to: it may be the content itself.

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


class ReservedFile:
    """See the module's text."""

    def __init__(self, path: Path) -> None:
        """Address the file; nothing is written before :meth:`reserve` or :meth:`replace`."""
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._old = path.with_name(f".{path.name}.old")

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
        self.reserve(len(content))

    def reserve(self, content_bytes: int = 0) -> None:
        """Have room for a version that is twice as large as this; a disk that gives none is asked again next time."""
        wanted_bytes = max(RESERVE_BYTES_MIN, 2 * content_bytes)
        try:
            self._old.unlink(missing_ok=True)
            if self._reserved_bytes() < wanted_bytes:
                replace_file(self._reserve, os.urandom(wanted_bytes))  # zeros might be compressed, or left out
        except OSError as error:
            log.info("%s has no reserve of %d bytes: %s", self._path.name, wanted_bytes, error)

    def _reserved_bytes(self) -> int:
        try:
            found = self._reserve.lstat()
        except FileNotFoundError:
            return 0
        return found.st_size if found.st_nlink == 1 else 0

    def _replace_in_reserve(self, content: bytes, refusal: OSError) -> None:
        if self._reserved_bytes() < len(content):
            raise refusal
        _overwrite(self._reserve, content)
        self._old.unlink(missing_ok=True)
        if self._path.exists():
            os.link(self._path, self._old)
        self._reserve.replace(self._path)
        with suppress(OSError):  # the content is new; a reserve is made again
            self._old.replace(self._reserve)
        sync_directory(self._path.parent)


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
