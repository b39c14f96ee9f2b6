"""Opaque cursors of keyset pages: the last row's key, encoded. Pure.

The failure this exists for: OFFSET pages, which skip and repeat rows while the fleet changes, and grow slower with each
page. A cursor is only a place in an order; it grants nothing, so it is not signed.
"""

import base64
import binascii
import json
from collections.abc import Sequence

from cloud.errors import InvalidInputError

CURSOR_CHARS_MAX = 512
INTEGER_MAX = 2**63 - 1

Key = tuple[str | int, ...]


class InvalidCursorError(InvalidInputError):
    """The text is not a cursor of this list; nothing was read."""

    code = "invalid-cursor"


def encode_cursor(key: Key) -> str:
    """A key as URL-safe text; ``decode_cursor(encode_cursor(key), kinds) == key``."""
    return base64.urlsafe_b64encode(json.dumps(key, ensure_ascii=False).encode()).decode().rstrip("=")


def decode_cursor(text: str, kinds: Sequence[type]) -> Key:
    """The inverse; ``kinds`` are the types of the key's parts.

    Raises:
        InvalidCursorError: not a cursor, or one of another list.
    """
    if len(text) > CURSOR_CHARS_MAX:
        raise _invalid()
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, UnicodeError, binascii.Error, RecursionError) as error:
        raise _invalid() from error
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds):
        raise _invalid()
    if any(isinstance(part, int) and not 0 <= part <= INTEGER_MAX for part in key):
        raise _invalid()
    return tuple(key)


def _invalid() -> InvalidCursorError:
    return InvalidCursorError(
        "the cursor is not one that this list gave", "Use next_cursor of the page before, unchanged, or leave it out."
    )
