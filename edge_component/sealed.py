"""JSON files that can tell whether they are as they were written.

The failure this exists for: a bit that flips on a worn flash card and leaves perfect JSON behind. A quarter of all
one-bit flips in a journal did: another digest (the model that serves is then forgotten, and collected), or a release
floor so high that the device refuses every update for good. So a file carries the CRC-32 of its own canonical form.

It finds accidents, not attackers: who can write the work folder is the component's own user. A file without a checksum
is read as it is. Pure functions; durable.py writes.
"""

import zlib

from edge_component.contracts.codec import Document, from_bytes, to_bytes
from edge_component.contracts.errors import MalformedError

CHECKSUM = "crc32"


def seal(document: Document) -> bytes:
    """The document's bytes, its checksum among its fields; :func:`unseal` gives the document back."""
    return to_bytes({**document, CHECKSUM: _checksum(document)})


def unseal(content: bytes, bytes_max: int) -> Document:
    """The document, without its checksum.

    Raises:
        ContractError: not a JSON object of at most so many bytes, or not what was written.
    """
    found = dict(from_bytes(content, bytes_max))
    expected = found.pop(CHECKSUM, None)
    if expected is not None and expected != _checksum(found):
        raise MalformedError("has changed on the disk: its checksum does not fit", CHECKSUM)
    return found


def _checksum(document: Document) -> str:
    return f"{zlib.crc32(to_bytes(document)):08x}"
