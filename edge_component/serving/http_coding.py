"""Compressed request bodies (``Content-Encoding``), as some HTTP clients send them: unpacked within the body's own limit.

The failures this exists for: a compressed body that is read as if it were none, and one of some kilobytes that unpacks to
all the memory of the device. Answers are never compressed, whatever ``Accept-Encoding`` says: no door here has a network
behind it that is slower than compressing, and any client must take an answer as it is (RFC 9110, 12.5.3). Pure.
"""

import zlib

from edge_component.serving.http_messages import HttpError

_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
"""zlib's word for the two formats: gzip's header, and zlib's own."""


def unpacked(body: memoryview, coding: bytes, bytes_max: int) -> memoryview:
    """The body as it was before ``coding``, a ``Content-Encoding``.

    Raises:
        HttpError: 415 for a coding that is not known here, 400 for a body that is not of it, 413 for more than
            ``bytes_max``.
    """
    window_bits = _WINDOW_BITS.get(coding.lower())
    if window_bits is None:
        raise HttpError(415, f"a body is taken as it is, or in gzip or deflate, not in {coding.decode('latin-1'):.40}")
    unpacker = zlib.decompressobj(window_bits)
    try:
        data = unpacker.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise HttpError(400, f"the body is not {coding.decode()}: {error}") from error
    if len(data) > bytes_max:
        raise HttpError(413, f"a body that unpacks to more than the {bytes_max} bytes that are taken")
    if not unpacker.eof or unpacker.unused_data:
        raise HttpError(400, f"the body is not one whole {coding.decode()} stream")
    return memoryview(data)
