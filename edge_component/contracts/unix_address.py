"""Unix socket addresses of any length.

The failure this exists for: the kernel takes 107 bytes of path and no more, and a work folder deep in a tree
(a simulated device, a test) is longer, which ends in ``AF_UNIX path too long``. The way round is the socket's own
folder, opened once and named through ``/proc/self/fd``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATH_BYTES_MAX = 107
"""``sizeof(sockaddr_un.sun_path) - 1`` on Linux."""


@contextmanager
def unix_address(path: Path) -> Iterator[str]:
    """An address for ``bind`` or ``connect`` that names ``path``, good while the context is open.

    Raises:
        OSError: the folder does not exist or may not be searched.
    """
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
