"""The API's token: where it is read from, and whether a request carries it.

The failures this exists for: a token that every user of the machine can read; and one that a comparison gives away
letter by letter. Whoever asks sends it as ``Authorization: Bearer <token>``. A browser, which has no such header to give,
asks its user for a name and a password (HTTP Basic): any name, and the token. Basic rather than a form with a cookie,
because there is then no session to keep, to end or to steal, nothing of the token is written to a disk, and no page that
must be open to strangers. What a browser sends by itself another site can make it send; so Basic admits reading alone.

Used by the server and by ``edgewright get`` alike; never logged.
"""

import binascii
import hmac
import os
import stat
from base64 import b64decode
from pathlib import Path

from cloud.errors import InvalidInputError
from cloud.settings import Settings

TOKEN_CHARS_MIN = 16
TOKEN_BYTES_MAX = 4_096
READING = frozenset({"GET", "HEAD"})


class DoorKeysError(InvalidInputError):
    """The API's token, certificate or private key cannot be used; nothing was started."""

    code = "door-keys"


def configured_token(settings: Settings, token_file: str = "") -> str:
    """The token that this installation is configured with; empty if none is.

    Args:
        settings: its ``api_token_file`` and ``api_token``, of which one may be set.
        token_file: takes the place of both.

    Raises:
        DoorKeysError: naming the file or variable that cannot be used.
    """
    if not token_file and settings.api_token and settings.api_token_file:
        raise DoorKeysError("EDGEWRIGHT_API_TOKEN and EDGEWRIGHT_API_TOKEN_FILE are both set", "Unset one of them.")
    path = token_file or settings.api_token_file
    if path:
        return read_token(Path(path))
    return checked_token(settings.api_token, "EDGEWRIGHT_API_TOKEN") if settings.api_token else ""


def read_token(path: Path) -> str:
    """A token file's one line.

    Raises:
        DoorKeysError: naming the file and what is wrong with it.
    """
    return checked_token(read_secret(path, TOKEN_BYTES_MAX).decode("utf-8", "replace"), str(path))


def checked_token(text: str, source: str) -> str:
    """The token in this text.

    Raises:
        DoorKeysError: it is none; ``source`` is named, the text is not.
    """
    token = text.strip()
    if len(token) < TOKEN_CHARS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise DoorKeysError(
            f"{source}: a token is one line of at least {TOKEN_CHARS_MIN} visible ASCII characters",
            "Make one with `openssl rand -hex 32`.",
        )
    return token


def admits(token: str, authorization: str, method: str) -> bool:
    """Whether a request with this ``Authorization`` header carries the token. In constant time."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return _is_same(credentials.strip().encode(), token)
    if scheme.lower() == "basic" and method in READING:
        return _is_same(_password(credentials), token)
    return False


def read_secret(path: Path, bytes_max: int) -> bytes:
    """A small ordinary file that only its owner may read.

    Raises:
        DoorKeysError: naming the file and what is wrong with it.
    """
    return read_key_file(path, bytes_max, is_secret=True)


def read_key_file(path: Path, bytes_max: int, *, is_secret: bool = False) -> bytes:
    """A small ordinary file; ``is_secret``: that only its owner may read.

    Raises:
        DoorKeysError: naming the file and what is wrong with it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
        try:
            _check_mode(path, os.fstat(descriptor).st_mode, is_secret=is_secret)
            content = os.read(descriptor, bytes_max + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise DoorKeysError(f"{path}: {getattr(error, 'strerror', None) or error}", "Check the path.") from error
    if not content or len(content) > bytes_max:
        raise DoorKeysError(f"{path}: {'empty' if not content else f'more than {bytes_max} bytes'}", "Check the file.")
    return content


def _check_mode(path: Path, mode: int, *, is_secret: bool) -> None:
    if not stat.S_ISREG(mode):
        raise DoorKeysError(f"{path}: no ordinary file", "Name a file.")
    if is_secret and mode & 0o077:
        raise DoorKeysError(
            f"{path}: its mode is {mode & 0o777:o}, and others may have no part in it", f"chmod 600 {path}"
        )


def _password(credentials: str) -> bytes:
    try:
        return b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def _is_same(given: bytes, token: str) -> bool:
    return hmac.compare_digest(given, token.encode())
