"""A door's certificate, private key and token, as their files are now: read, checked, and read again when they change.

The failures this exists for: a private key that every program of the device can read; a certificate that was renewed on
the disk and ended in the memory of a process that nobody restarts; and a renewal that was caught half done, or went wrong,
and took the door with it. So changed files are noticed at the next handshake or request (their metadata is looked at, at
most once in ``LOOK_S``), and are used once they are whole, belong together and have safe modes; until then, the keys in
use stay in use, and :meth:`DoorKeyring.warnings` says so.

What is checked is what is used: each file is read once, and both doors take those bytes. Thread-safe; the decision whether
a door may open at all is exposure.py's.
"""

import logging
import os
import ssl
import stat
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from edge_component.clock import Clock
from edge_component.errors import DoorKeysError
from edge_component.serving.exposure import DoorKeys, KeyFiles, certificate_warning

log = logging.getLogger(__name__)

LOOK_S = 1.0
TOKEN_CHARS_MIN = 16
TOKEN_BYTES_MAX = 4_096
KEY_BYTES_MAX = 1_000_000

Stamp = tuple[tuple[int, ...] | None, ...]
"""What of the files' metadata tells that they have changed; ``None`` for one that is not there."""


@dataclass(frozen=True, slots=True, repr=False)
class LoadedKeys:
    """Keys that were checked, and the doors' TLS with them: REST's, and gRPC's, whose clients insist on ``h2``."""

    keys: DoorKeys
    context: ssl.SSLContext
    http2_context: ssl.SSLContext
    begins_at: datetime
    ends_at: datetime


class DoorKeyring:
    """The keys of one set of files; one for all doors that share them."""

    def __init__(self, files: KeyFiles, clock: Clock) -> None:
        """Read them.

        Raises:
            DoorKeysError: naming the file and what is wrong with it.
        """
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = _stamp(files)
        self._loaded = load_door_keys(files)
        self._problem = ""
        self._look_again_s = clock.monotonic_s() + LOOK_S

    def current(self) -> LoadedKeys:
        """The keys to use now; the same object as long as they are the same keys."""
        if self._clock.monotonic_s() >= self._look_again_s and self._lock.acquire(blocking=False):
            try:
                self._look_again_s = self._clock.monotonic_s() + LOOK_S
                self._look()
            finally:
                self._lock.release()
        return self._loaded

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know of these keys, now."""
        loaded = self.current()
        ending = certificate_warning(loaded.begins_at, loaded.ends_at, self._clock.now())
        sentences = (self._problem, f"{self._files.certificate}: {ending}" if ending else "")
        return tuple(sentence for sentence in sentences if sentence)

    def _look(self) -> None:
        stamp = _stamp(self._files)
        if stamp == self._seen:
            self._problem = ""  # those in use are what lies there, if only again
            return
        try:
            self._loaded = load_door_keys(self._files)
        except DoorKeysError as error:  # looked at again next time: it may be this process that lacks something
            problem = f"the doors' keys have changed, and those read before are still used: {error}"
            if problem != self._problem:
                log.error("%s", problem)  # noqa: TRY400 - a sentence
            self._problem = problem
        else:
            self._seen, self._problem = stamp, ""
            log.info("the doors' keys have changed and were read again: %s", self._files.certificate)


def load_door_keys(files: KeyFiles) -> LoadedKeys:
    """Read and check what a door needs.

    Raises:
        DoorKeysError: naming the file that is missing, empty, too large, open to others, or no key for that certificate.
    """
    token = _read_secret(files.token, TOKEN_BYTES_MAX).decode("utf-8", "replace").strip()
    if len(token) < TOKEN_CHARS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise DoorKeysError(
            f"{files.token}: a token is one line of at least {TOKEN_CHARS_MIN} visible ASCII characters"
        )
    keys = DoorKeys(_read(files.certificate, KEY_BYTES_MAX), _read_secret(files.private_key, KEY_BYTES_MAX), token)
    context, http2_context = (_tls_context(keys, f"{files.certificate} and {files.private_key}") for _ in range(2))
    http2_context.set_alpn_protocols(["h2"])
    try:
        certificate = x509.load_pem_x509_certificate(keys.certificate)
    except ValueError as error:
        raise DoorKeysError(f"{files.certificate}: {error}") from error
    return LoadedKeys(keys, context, http2_context, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _tls_context(keys: DoorKeys, named: str) -> ssl.SSLContext:
    """TLS 1.2 or later, with a key that belongs to the certificate.

    Raises:
        DoorKeysError: they do not belong together, or are not PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could ask for it all day
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # a cut is an end: HTTP says itself what is whole
    try:
        memory = os.memfd_create("door-keys", os.MFD_CLOEXEC)  # ssl reads files only; these bytes are what was checked
    except OSError as error:
        raise DoorKeysError(f"{named} cannot be loaded: {error.strerror}") from error
    try:
        os.write(memory, keys.certificate + b"\n" + keys.private_key)
        context.load_cert_chain(f"/proc/self/fd/{memory}", password="")  # none: never ask on a terminal
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DoorKeysError(f"{named} are no certificate and unencrypted key that belong together: {reason}") from error
    finally:
        os.close(memory)
    return context


def _stamp(files: KeyFiles) -> Stamp:
    return tuple(_stamp_of(path) for path in (files.certificate, files.private_key, files.token))


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read_secret(path: Path, bytes_max: int) -> bytes:
    return _read(path, bytes_max, is_secret=True)


def _read(path: Path, bytes_max: int, *, is_secret: bool = False) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
        try:
            _check_mode(path, os.fstat(descriptor).st_mode, is_secret=is_secret)
            content = os.read(descriptor, bytes_max + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise DoorKeysError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not content or len(content) > bytes_max:
        raise DoorKeysError(f"{path}: {'empty' if not content else f'more than {bytes_max} bytes'}")
    return content


def _check_mode(path: Path, mode: int, *, is_secret: bool) -> None:
    if not stat.S_ISREG(mode):
        raise DoorKeysError(f"{path}: no ordinary file")
    if is_secret and mode & 0o077:
        raise DoorKeysError(
            f"{path}: its mode is {mode & 0o777:o}, and others may have no part in it", f"chmod 600 {path}"
        )
