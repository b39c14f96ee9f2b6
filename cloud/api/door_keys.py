"""The API's certificate and private key, as their files are now: read, checked, and read again when they change.

The failures this exists for: a private key that others can read; a certificate that was renewed on the disk and ended in
the memory of a process that nobody restarts; and a renewal caught half done that takes the door with it. So changed files
are used once they are whole and belong together; until then the pair in use stays in use, and :attr:`CertificateFiles.trouble`
says so. Not thread-safe: the server looks from the event loop that also shakes hands.
"""

import logging
import os
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from cloud.api.door_token import DoorKeysError, read_key_file, read_secret

log = logging.getLogger(__name__)

KEY_BYTES_MAX = 1_000_000
SOON = timedelta(days=21)
"""A certificate that ends within this, or within a fifth of its life if that is less, is spoken of."""

Stamp = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, slots=True, repr=False)
class _Pair:
    """Certificate chain and private key (PEM) that were read together, and how long the certificate is valid."""

    certificate: bytes
    private_key: bytes
    begins_at: datetime
    ends_at: datetime


class CertificateFiles:
    """A certificate chain and its private key (PEM files), and the TLS context that serves with them."""

    def __init__(self, certificate: Path, private_key: Path) -> None:
        """Read them.

        Raises:
            DoorKeysError: naming the file and what is wrong with it.
        """
        self._certificate, self._private_key = certificate, private_key
        self._seen = self._stamp()
        self._pair = self._read()
        self._problem = ""
        self.context = _empty_context()
        _load(self.context, self._pair)

    def look(self) -> None:
        """Use the files' content from now on, if it has changed and is whole; never raises."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._pair = self._read()
        except DoorKeysError as error:
            self._problem = f"certificate or key have changed, and those read before are still used: {error}"
            log.error("%s", self._problem)  # noqa: TRY400 - a sentence
        else:
            self._problem = ""
            _load(self.context, self._pair)
            log.info("certificate and key have changed and were read again: %s", self._certificate)

    def trouble(self, now: datetime) -> str:
        """What an operator should know of them; empty if nothing."""
        ending = certificate_warning(self._pair.begins_at, self._pair.ends_at, now)
        return self._problem or (f"{self._certificate}: {ending}" if ending else "")

    def _read(self) -> _Pair:
        certificate = read_key_file(self._certificate, KEY_BYTES_MAX)
        private_key = read_secret(self._private_key, KEY_BYTES_MAX)
        try:
            parsed = x509.load_pem_x509_certificate(certificate)
        except ValueError as error:
            raise DoorKeysError(f"{self._certificate}: {error}", "Give the chain as PEM, its own first.") from error
        pair = _Pair(certificate, private_key, parsed.not_valid_before_utc, parsed.not_valid_after_utc)
        try:
            _load(_empty_context(), pair)  # a context that took half of a pair would be of no use any more
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise DoorKeysError(
                f"{self._certificate} and {self._private_key} are no certificate and unencrypted key that belong "
                f"together: {reason}",
                "Give PEM files that belong together.",
            ) from error
        return pair

    def _stamp(self) -> Stamp:
        return _stamp_of(self._certificate), _stamp_of(self._private_key)


def certificate_warning(begins_at: datetime, ends_at: datetime, now: datetime) -> str:
    """What clients will, or soon will, have against a certificate of this validity; empty if nothing."""
    if now < begins_at:
        return f"the certificate is valid only from {begins_at:%Y-%m-%d %H:%M} UTC"
    if now >= ends_at:
        return f"the certificate ended at {ends_at:%Y-%m-%d %H:%M} UTC: clients refuse it"
    if ends_at - now < min(SOON, (ends_at - begins_at) / 5):
        return f"the certificate ends at {ends_at:%Y-%m-%d %H:%M} UTC"
    return ""


def _empty_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could ask for it all day
    return context


def _load(context: ssl.SSLContext, pair: _Pair) -> None:
    memory = os.memfd_create("door-keys", os.MFD_CLOEXEC)  # ssl reads files only, and these bytes are what was checked
    try:
        os.write(memory, pair.certificate + b"\n" + pair.private_key)
        context.load_cert_chain(f"/proc/self/fd/{memory}", password="")  # none: never ask on a terminal
    finally:
        os.close(memory)


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
