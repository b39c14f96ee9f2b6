"""May the fleet status API listen where it is told to: on loopback always, beyond it only with a token and TLS. Pure.

The failure this exists for: a page that is "only for the office network" and tells everybody there which device runs
what. So an address beyond loopback without a token does not start; nor does one in plain HTTP, over which a token is
anybody's who listens, unless the operator says that a proxy ends TLS before it. Where a token is configured it is asked
for, on loopback too: nobody who sets one expects to be answered without.

The device's doors keep the same rules (``edge_component/serving/exposure.py``); their code may not be imported here.
"""

import ipaddress
from dataclasses import dataclass

from cloud.errors import InvalidInputError


class ExposedDoorError(InvalidInputError):
    """The API would be reachable from other machines without a token or without TLS; nothing was started."""

    code = "door-exposed"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where the API listens; port 0 takes a free one."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """As URLs write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Nothing but this machine can reach it."""
        return is_loopback_name(self.host)


def is_loopback_name(host: str) -> bool:
    """Whether a host can only be this machine. A name other than ``localhost`` may resolve to anything, so it is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_loopback(host_header: str) -> bool:
    """Whether a request's ``Host`` names this machine, which a web page cannot forge (DNS rebinding)."""
    host = host_header.lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return is_loopback_name(name[1:-1] if name.startswith("[") else name)


def check_exposure(address: TcpAddress, *, has_token: bool, has_tls: bool, behind_tls_proxy: bool) -> None:
    """Let the API listen, or not.

    Raises:
        ExposedDoorError: others could reach it without a token, or would send theirs in plain HTTP.
    """
    if address.is_loopback:
        return
    beyond = f"the API would listen on {address.host}, beyond loopback,"
    if not has_token:
        raise ExposedDoorError(
            f"{beyond} without a token",
            "Listen on 127.0.0.1, or give --token-file (openssl rand -hex 32 makes a token).",
        )
    if not has_tls and not behind_tls_proxy:
        raise ExposedDoorError(
            f"{beyond} in plain HTTP, which shows the token to whoever listens",
            "Give --certificate-file and --key-file; or, where a proxy ends TLS before it, say --behind-tls-proxy.",
        )
