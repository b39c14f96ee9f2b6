"""The digest that names files everywhere here: SHA-256 in lower-case hex. Streams, so that a file may be larger than memory."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 lower-case hex digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
