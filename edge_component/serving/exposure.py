"""May a TCP door listen where it is told to: on loopback always, beyond it only with TLS and a token. Pure.

The failure this exists for: a model server that is "only for the machine next door" and ends up open to a whole plant
(Triton's and MLflow's advisories are full of them). So a door off loopback that lacks either does not start, and says
which; no door over TCP is on unless it is configured; and where keys are configured they are used, on loopback too: nobody
who sets a token expects to be answered without one.

Unix sockets are access.py's. The files are read by door_keys.py. Tokens are compared in constant time, and never logged.
"""

import hmac
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_component.config import RuntimeConfig
from edge_component.errors import DoorKeysError, ExposedDoorError

SOON = timedelta(days=21)
"""A certificate that ends within this, or within a fifth of its life if that is less, is spoken of."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where a door listens; port 0 takes a free one."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """As URLs and gRPC write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Nothing but this device can reach it. A name other than ``localhost`` may resolve to anything, so it is not."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where a door's keys are kept; see :class:`DoorKeys`."""

    certificate: Path
    private_key: Path
    token: Path


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


def check_exposure(door: str, address: TcpAddress, *, has_keys: bool) -> None:
    """Let a door listen, or not.

    Raises:
        ExposedDoorError: it would be reachable from other machines without TLS and a token.
    """
    if not address.is_loopback and not has_keys:
        raise ExposedDoorError(f"{door} would listen on {address.host}, beyond loopback, without TLS and a token")


def key_files(config: RuntimeConfig, work_path: Path) -> KeyFiles | None:
    """Where the configuration says that the keys are; ``None`` where it names none.

    Raises:
        DoorKeysError: it names only some of the three.
    """
    named = {
        "oip_certificate_file": config.oip_certificate_file,
        "oip_key_file": config.oip_key_file,
        "oip_token_file": config.oip_token_file,
    }
    missing = [field for field, path in named.items() if not path]
    if len(missing) == len(named):
        return None
    if missing:
        given = next(field for field in named if field not in missing)
        raise DoorKeysError(
            f"configuration field {' and '.join(missing)}: not set, and {given} is", "Set all three, or none of them."
        )
    return KeyFiles(*(work_path / path for path in named.values()))


def certificate_warning(begins_at: datetime, ends_at: datetime, now: datetime) -> str:
    """What clients will, or soon will, have against a certificate of this validity; empty if nothing."""
    if now < begins_at:
        return f"the certificate is valid only from {_said(begins_at)}, and the clock says {_said(now)}"
    if now >= ends_at:
        return f"the certificate ended at {_said(ends_at)}: clients refuse it"
    if ends_at - now < min(SOON, (ends_at - begins_at) / 5):
        return f"the certificate ends at {_said(ends_at)}, in {_span(ends_at - now)}"
    return ""


def _said(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _span(span: timedelta) -> str:
    hours = int(span.total_seconds() // 3600)
    return f"{span.days} days" if span.days > 1 else f"{hours} hours" if hours else "less than an hour"
