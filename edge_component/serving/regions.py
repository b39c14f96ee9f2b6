"""Shared memory that clients register under a name: Triton's system-shared-memory extension, opt-in and owner-checked.

The failures this exists for, all seen elsewhere: a server that maps whatever name it is told, its own private regions or
another user's included (CVE-2025-23319, -23320, -23334); one that reads or writes beyond the region; and one that dies of
SIGBUS because the client shrank the memory after registering it. So:

- only ``/dev/shm`` objects, by one plain name, no symbolic link, regular files, that belong to the user who asks where the
  kernel names that user (the Unix sockets), and else to the component's user;
- a client sees and uses only the regions that its own user registered;
- nothing is mapped: data is read and written through the descriptor (``preadv``, ``pwritev``), which answers with a short
  count where a mapping would kill the process. That is one copy, about 50 us for 602 kB.

May be used from any thread; a region that is unregistered while it is used stays open until that use is over.
"""

import os
import stat
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_component.serving.oip_codec import Buffer
from edge_component.serving.oip_errors import (
    OipMalformedError,
    OipTooLargeError,
    RegionBoundsError,
    RegionForeignError,
    RegionLimitError,
    RegionTakenError,
    RegionUnknownError,
)

FOLDER = "/dev/shm"  # noqa: S108 - where POSIX puts shared memory on Linux (shm_open(3)), not a temporary file
REGIONS_MAX = 256
NAME_CHARS_MAX = 255


class _Descriptor:
    """Closes itself when the last user has let go."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@dataclass(frozen=True, slots=True)
class Region:
    """A registered piece of a shared-memory object, from ``offset`` on."""

    name: str
    key: str
    offset: int
    byte_size: int
    owner_id: int
    tensor_bytes_max: int
    descriptor: _Descriptor

    def document(self) -> dict[str, Any]:
        """As the status call names it."""
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.byte_size}

    def read(self, offset: int, byte_size: int) -> memoryview:
        """A copy of what lies there now.

        Raises:
            RegionBoundsError: beyond the region, or the client has made the memory smaller.
            OipTooLargeError: more than one tensor may have.
        """
        self._check(offset, byte_size)
        if byte_size > self.tensor_bytes_max:
            raise OipTooLargeError(
                f"{byte_size} bytes of region {self.name!r}; at most {self.tensor_bytes_max} a tensor"
            )
        copied = np.empty(byte_size, np.uint8)
        target = copied.data
        done = 0
        while done < byte_size:
            count = os.preadv(self.descriptor.number, [target[done:]], self.offset + offset + done)
            if not count:
                raise RegionBoundsError(f"the memory of region {self.name!r} has become smaller than was registered")
            done += count
        return target

    def write(self, offset: int, byte_size: int, data: Buffer) -> None:
        """Put an output there.

        Raises:
            RegionBoundsError: beyond the region, or the output is larger than ``byte_size``, or the memory is gone.
        """
        self._check(offset, byte_size)
        size = len(data)
        if size > byte_size:
            raise RegionBoundsError(f"an output of {size} bytes does not fit {byte_size} of region {self.name!r}")
        if os.fstat(self.descriptor.number).st_size < self.offset + offset + size:
            raise RegionBoundsError(f"the memory of region {self.name!r} has become smaller than was registered")
        rest = memoryview(data)
        at = self.offset + offset
        try:
            while rest:
                count = os.pwritev(self.descriptor.number, [rest], at)
                rest, at = rest[count:], at + count
        except OSError as error:
            raise RegionBoundsError(f"region {self.name!r} does not take an output: {error.strerror}") from error

    def _check(self, offset: int, byte_size: int) -> None:
        if offset < 0 or byte_size < 0 or offset + byte_size > self.byte_size:
            raise RegionBoundsError(
                f"{byte_size} bytes from {offset} on; region {self.name!r} has {self.byte_size} bytes"
            )


class Regions:
    """The registered regions."""

    def __init__(self, tensor_bytes_max: int, folder: str = FOLDER) -> None:
        """None yet. No tensor of more than ``tensor_bytes_max`` is read: sparse memory may claim any size."""
        self._tensor_bytes_max = tensor_bytes_max
        self._folder = folder
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, byte_size: int, peer_id: int | None) -> None:
        """Open a shared-memory object for a client; ``peer_id`` is its user, where the kernel says so.

        Raises:
            RegionForeignError: not there, or of another user.
            OipMalformedError: no name that is kept.
            RegionBoundsError, RegionTakenError, RegionLimitError: nothing was registered.
        """
        if not 0 < len(name) <= NAME_CHARS_MAX:
            raise OipMalformedError(f"a region's name has 1 to {NAME_CHARS_MAX} characters", "Choose a shorter name.")
        descriptor = self._open(key, offset, byte_size, peer_id)
        region = Region(name, key, offset, byte_size, _user(peer_id), self._tensor_bytes_max, descriptor)
        with self._lock:
            if name in self._regions:
                raise RegionTakenError(f"a region {name!r} is registered already")
            if len(self._regions) >= REGIONS_MAX:
                raise RegionLimitError(f"{REGIONS_MAX} regions are registered")
            self._regions[name] = region

    def unregister(self, name: str, peer_id: int | None) -> None:
        """Forget a region of this client's, or all of them if the name is empty; one that is not there is no error."""
        with self._lock:
            self._regions = {
                known: region
                for known, region in self._regions.items()
                if (name and known != name) or not _may_use(region, peer_id)
            }

    def status(self, name: str, peer_id: int | None) -> list[dict[str, Any]]:
        """One region of this client's, or all of them if the name is empty.

        Raises:
            RegionUnknownError: there is none of that name.
        """
        if name:
            return [self.find(name, peer_id).document()]
        return [region.document() for region in self._regions.copy().values() if _may_use(region, peer_id)]

    def find(self, name: str, peer_id: int | None) -> Region:
        """A region that this client may use.

        Raises:
            RegionUnknownError: there is none, or it is another user's: which of the two is nobody's business.
        """
        region = self._regions.get(name)
        if region is None or not _may_use(region, peer_id):
            raise RegionUnknownError(f"no region {name!r:.{NAME_CHARS_MAX}} is registered")
        return region

    def _open(self, key: str, offset: int, byte_size: int, peer_id: int | None) -> _Descriptor:
        plain = key.removeprefix("/")
        if not plain or "/" in plain or "\0" in plain or plain in (".", "..") or len(plain) > NAME_CHARS_MAX:
            raise RegionForeignError("a shared-memory key is one plain name, such as /input")
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = _Descriptor(os.open(f"{self._folder}/{plain}", flags))
        except OSError as error:
            raise RegionForeignError(f"the shared memory {key!r} cannot be opened: {error.strerror}") from error
        found = os.fstat(descriptor.number)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != _user(peer_id):
            raise RegionForeignError(f"the shared memory {key!r} belongs to somebody else")
        if byte_size <= 0 or offset < 0 or offset + byte_size > found.st_size:
            raise RegionBoundsError(f"{byte_size} bytes from {offset} on; {key!r} has {found.st_size} bytes")
        return descriptor


def _may_use(region: Region, peer_id: int | None) -> bool:
    """Whoever registered it."""
    return region.owner_id == _user(peer_id)


def _user(peer_id: int | None) -> int:
    """The component's own user stands for those whom the kernel does not name."""
    return os.geteuid() if peer_id is None else peer_id
