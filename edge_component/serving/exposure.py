"""May a TCP door listen where it is told to: on loopback always, beyond it only with TLS and a token.

The failure this exists for: a model server that is "only for the machine next door" and ends up open to a whole plant
(Triton's and MLflow's advisories are full of them). So a door off loopback that lacks either does not start, and says
which; and no door over TCP is on unless it is configured.

Unix sockets are access.py's. The decision is pure; :func:`load_door_keys` reads files. Tokens are compared in constant
time, and never logged.
"""

import hmac
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from edge_component.errors import DoorKeysError, ExposedDoorError

TOKEN_CHARS_MIN = 16
TOKEN_BYTES_MAX = 4_096
KEY_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where a door listens; port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Nothing but this device can reach it. A name other than ``localhost`` may resolve to anything, so it is not."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True, repr=False)
class DoorKeys:
    """What a door needs to leave loopback: certificate chain and private key (PEM), and the token that clients send."""

    certificate: bytes
    private_key: bytes
    token: str

    def admits(self, authorization: str) -> bool:
        """Whether this ``authorization`` header (or gRPC metadata) carries the token: ``Bearer <token>``."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self.token.encode())


def check_exposure(door: str, address: TcpAddress, keys: DoorKeys | None) -> None:
    """Let a door listen, or not.

    Raises:
        ExposedDoorError: it would be reachable from other machines without TLS and a token.
    """
    if not address.is_loopback and keys is None:
        raise ExposedDoorError(f"{door} would listen on {address.host}, beyond loopback, without TLS and a token")


def load_door_keys(certificate_path: Path, key_path: Path, token_path: Path) -> DoorKeys:
    """Read and check what a door needs.

    Raises:
        DoorKeysError: naming the file that is missing, empty, too large, or no key for that certificate.
    """
    token = _read(token_path, TOKEN_BYTES_MAX).decode("utf-8", "replace").strip()
    if len(token) < TOKEN_CHARS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise DoorKeysError(f"{token_path}: a token is one line of at least {TOKEN_CHARS_MIN} visible ASCII characters")
    if token_path.stat().st_mode & 0o077 or key_path.stat().st_mode & 0o077:
        raise DoorKeysError(f"{token_path} and {key_path} must be readable by their owner only (chmod 600)")
    keys = DoorKeys(_read(certificate_path, KEY_BYTES_MAX), _read(key_path, KEY_BYTES_MAX), token)
    tls_context(certificate_path, key_path)
    return keys


def tls_context(certificate_path: Path, key_path: Path) -> ssl.SSLContext:
    """For a door on the standard library's sockets: TLS 1.2 or later.

    Raises:
        DoorKeysError: they do not belong together, or are not PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate_path, key_path, password="")  # none: never ask on a terminal
    except (ssl.SSLError, OSError) as error:
        raise DoorKeysError(f"{certificate_path} and {key_path}: {error}") from error
    return context


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise DoorKeysError(f"{path}: {error.strerror or error}") from error
    if not content or len(content) > bytes_max:
        raise DoorKeysError(f"{path}: {'empty' if not content else f'more than {bytes_max} bytes'}")
    return content
