"""A certificate authority in a folder: one CA, one certificate for the broker, one for each thing.

It stands for AWS IoT's own, so that a broker with mutual TLS can tell things apart by certificate. It is for one
machine: keys lie unencrypted in the folder (mode 0600), lifetimes are short, nothing is ever revoked.

Safe to use from several processes: files appear by rename, and the first writer of an identity wins.
"""

import ipaddress
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulator.mqtt.address import BrokerAddress, Credentials
from simulator.mqtt.errors import MqttError

LIFETIME_DAYS = 30
CLOCK_SKEW = timedelta(hours=1)
LAST_DAY = timedelta(days=1)
"""An authority this near to its end is not begun with."""


class Authority:
    """Issues certificates below one folder: ``ca.pem``, ``ca.key`` and ``issued/<name>.{pem,key}``."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read or written until something is asked for."""
        self._directory = directory

    @property
    def certificate_file(self) -> Path:
        """The authority's own certificate, which clients and the broker trust."""
        return self._directory / "ca.pem"

    def create(self, now: datetime) -> None:
        """Make the authority unless the folder has one already; one that has run out goes, with all that it issued."""
        if self.certificate_file.exists() and not self._has_run_out(now):
            return
        for path in (self.certificate_file, self._directory / "ca.key", *(self._directory / "issued").glob("*")):
            path.unlink(missing_ok=True)
        (self._directory / "issued").mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _common_name("Edgewright local authority")
        certificate = (
            _builder(name, name, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_new(self._directory / "ca.key", _private_pem(key))
        _write_new(self.certificate_file, certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, now: datetime, *, server: bool = False) -> Credentials:
        """The credentials of ``name``, made on first use. ``server`` adds the names a local broker is reached by.

        Raises:
            MqttError: the name cannot be one (path separators, more than 64 characters), or there is no authority here.
        """
        if not name or "/" in name or name.startswith(".") or len(name) > 64:
            raise MqttError(f"{name!r} cannot be a certificate's name", "Use a thing name of at most 64 characters.")
        credentials = Credentials(
            self._directory / "issued" / f"{name}.pem", self._directory / "issued" / f"{name}.key"
        )
        if not credentials.certificate.exists():
            self._make(name, credentials, now, server=server)
        return credentials

    def _has_run_out(self, now: datetime) -> bool:
        certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        return certificate.not_valid_after_utc <= now + LAST_DAY

    def _make(self, name: str, credentials: Credentials, now: datetime, *, server: bool) -> None:
        authority_key, authority = self._load()
        _write_new(credentials.private_key, _private_pem(ec.generate_private_key(ec.SECP256R1())))
        key = _read_key(credentials.private_key)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(_common_name(name), authority.subject, key.public_key(), now).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if server:
            builder = builder.add_extension(_local_names(), critical=False)
        certificate = builder.sign(authority_key, hashes.SHA256())
        _write_new(credentials.certificate, certificate.public_bytes(serialization.Encoding.PEM))

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        try:
            key = _read_key(self._directory / "ca.key")
            certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        except (OSError, ValueError) as error:
            raise MqttError(
                f"no certificate authority in {self._directory} ({error!r})", "Start the broker from this folder."
            ) from error
        return key, certificate


def credentials_for(address: BrokerAddress, name: str, now: datetime | None = None) -> Credentials | None:
    """The credentials with which ``name`` (a thing, or ``CLOUD_NAME``) connects; ``None`` on a plain broker.

    Raises:
        MqttError: the broker's authority cannot be read, or the name cannot be one.
    """
    if address.tls is None:
        return None
    return Authority(address.tls.parent).issue(name, datetime.now(UTC) if now is None else now)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=LIFETIME_DAYS))
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _local_names() -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MqttError(f"{path} is not an elliptic-curve key", "Remove the broker's folder and start it again.")
    return key


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that appears whole, mode 0600, and only if it is not there yet."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()
