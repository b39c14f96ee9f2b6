"""Keys for tests: self-signed certificates for the doors of this machine's loopback addresses, and a token."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1")
YEAR = dt.timedelta(days=365)
TOKEN = "0123456789abcdef-token"


def write_private(path: Path, content: bytes) -> Path:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def name_of(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def write_certificate(
    stem: Path, begins_at: dt.datetime | None = None, life: dt.timedelta = YEAR, password: bytes = b""
) -> Path:
    """Self-signed, for localhost and :data:`ADDRESSES`; ``stem.pem`` is returned, ``stem.key`` lies beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    begins_at = begins_at or dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(each)) for each in ADDRESSES)]
    certificate = (
        x509.CertificateBuilder(
            name_of("device"), name_of("device"), key.public_key(), x509.random_serial_number(), begins_at, begins_at + life
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_private(stem.with_suffix(".key"), pem)
    path = stem.with_suffix(".pem")
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
