"""Where a broker is and how it differs from AWS IoT Core, as one value that fits in a JSON file.

The file is how separate processes (local cloud, nuclei, fleets) find the same broker.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from simulator.mqtt.errors import MqttError

CLOUD_NAME = "edgewright-cloud"
"""The certificate name that may publish and subscribe everywhere: the local cloud's own."""

IOT_CORE_PAYLOAD_BYTES_MAX = 131_072
"""AWS IoT Core's largest publish (128 kB, its quota page)."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker on this machine.

    Attributes:
        host: as the server certificate names it.
        port: TCP port.
        tls: the authority's certificate (PEM); ``None`` for a plain broker, which is no security boundary.
        dollar_prefix: what stands for the ``$`` of ``$aws/…`` on the wire.
        payload_bytes_max: largest payload of one publish; the client refuses more, since brokers drop it silently.
    """

    host: str
    port: int
    tls: Path | None = None
    dollar_prefix: str = "$"
    payload_bytes_max: int = IOT_CORE_PAYLOAD_BYTES_MAX

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            MqttError: the file is missing or is not a broker address.
        """
        try:
            document = json.loads(path.read_text())
            tls = document["tls"]
            known = {field.name: document[field.name] for field in fields(cls)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MqttError(
                f"{path} is not a broker address ({error!r})", "Start the broker again, or name its address file."
            ) from error
        return cls(**{**known, "tls": None if tls is None else Path(tls)})

    def write(self, path: Path) -> None:
        """Write one JSON object; readable by :meth:`read`."""
        path.write_text(json.dumps({**asdict(self), "tls": None if self.tls is None else str(self.tls)}) + "\n")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One identity's certificate and key (PEM files); the certificate's common name is the identity."""

    certificate: Path
    private_key: Path
