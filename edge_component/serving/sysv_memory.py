"""Reading System V shared memory that a client names by its segment id, as the Edge Manager agent did.

The failure this exists for: a service that reads, on a stranger's word, any segment that *it* may read (the databases of
PostgreSQL and X clients are such segments). So a segment counts only if both who created it and who owns it now may use
this door anyway: the component's own user, or a member of ``socket_group``.

Attached first and looked at then: an attached segment keeps its id, so that what is checked is what is read; it cannot be
made smaller either (System V has no such call), so that no client can crash the reader. Attached read-only, copied,
detached. The C library's three calls through ctypes; where they are missing, the door says so.
"""

import ctypes
import os
import struct
from collections.abc import Callable

from edge_component.serving.edge_manager_errors import SegmentBoundsError, SegmentForeignError

SHM_RDONLY = 0o10000
IPC_STAT = 2
STATUS = struct.Struct("@iIIII28xQ")
"""``struct shmid64_ds`` of x86-64 and aarch64 as far as it matters: key, uid, gid, cuid, cgid, …, size in bytes."""
STATUS_BYTES_MAX = 256
ATTACH_FAILED = ctypes.c_void_p(-1).value
TENSOR_BYTES_MAX = 256_000_000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmdt.argtypes = (ctypes.c_void_p,)
_libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)

IsTrusted = Callable[[int], bool]
"""Whether a user id may use this door."""


def read_segment(segment_id: int, offset: int, size_bytes: int, is_trusted: IsTrusted) -> bytes:
    """A copy of part of a segment.

    Raises:
        SegmentForeignError: it is not there, may not be read, or is a stranger's.
        SegmentBoundsError: beyond its end, or above :data:`TENSOR_BYTES_MAX`.
    """
    if not 0 <= segment_id < 2**31:
        raise SegmentForeignError(f"{segment_id} is no segment id")
    address = _libc.shmat(segment_id, None, SHM_RDONLY)
    if address == ATTACH_FAILED:
        raise SegmentForeignError(f"segment {segment_id}: {os.strerror(ctypes.get_errno())}")
    try:
        _check(segment_id, offset, size_bytes, is_trusted)
        return ctypes.string_at(address + offset, size_bytes)
    finally:
        _libc.shmdt(address)


def _check(segment_id: int, offset: int, size_bytes: int, is_trusted: IsTrusted) -> None:
    buffer = ctypes.create_string_buffer(STATUS_BYTES_MAX)
    if _libc.shmctl(segment_id, IPC_STAT, buffer) != 0:
        raise SegmentForeignError(f"segment {segment_id}: {os.strerror(ctypes.get_errno())}")
    _, owner_id, _, creator_id, _, segment_bytes = STATUS.unpack_from(buffer)
    for user_id in (creator_id, owner_id):
        if not is_trusted(user_id):
            raise SegmentForeignError(f"segment {segment_id} belongs to user {user_id}, who may not use this door")
    if size_bytes > TENSOR_BYTES_MAX:
        raise SegmentBoundsError(f"{size_bytes} bytes; one tensor has at most {TENSOR_BYTES_MAX}")
    if offset + size_bytes > segment_bytes:
        raise SegmentBoundsError(f"{offset} + {size_bytes} bytes of segment {segment_id}, which has {segment_bytes}")
