"""Where the API listens and what it asks for there, settled before anything is opened.

The failure this exists for: a database opened, loops started and a port bound by a service that may not listen there.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from cloud.api.door_keys import CertificateFiles
from cloud.api.door_token import DoorKeysError, configured_token
from cloud.api.exposure import TcpAddress, check_exposure
from cloud.settings import Settings


@dataclass(frozen=True, slots=True)
class Door:
    """An address that may be listened on; ``token`` is empty and ``certificate`` ``None`` where none is configured."""

    address: TcpAddress
    token: str = field(repr=False)
    certificate: CertificateFiles | None

    @classmethod
    def settled(
        cls,
        settings: Settings,
        address: TcpAddress,
        token_file: str = "",
        key_files: tuple[Path | None, Path | None] = (None, None),
        *,
        behind_tls_proxy: bool = False,
    ) -> Self:
        """Read the keys and decide.

        Args:
            settings: what token is configured, unless ``token_file`` names another.
            address: where to listen.
            token_file: empty: as the settings say.
            key_files: certificate chain and private key; both or none.
            behind_tls_proxy: a proxy ends TLS before it.

        Raises:
            DoorKeysError: a key cannot be used.
            ExposedDoorError: see :func:`~cloud.api.exposure.check_exposure`.
        """
        certificate, private_key = key_files
        if (certificate is None) != (private_key is None):
            raise DoorKeysError("--certificate-file and --key-file go together", "Give both, or neither.")
        token = configured_token(settings, token_file)
        has_tls = certificate is not None
        check_exposure(address, has_token=bool(token), has_tls=has_tls, behind_tls_proxy=behind_tls_proxy)
        return cls(address, token, CertificateFiles(certificate, private_key) if certificate and private_key else None)

    def states(self, now: datetime) -> list[dict[str, str]]:
        """For ``/healthz``, as a loop's: what is wrong with the certificate, where there is one."""
        return [{"name": "door", "trouble": self.certificate.trouble(now)}] if self.certificate else []
