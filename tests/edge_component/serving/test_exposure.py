"""A TCP door on loopback needs nothing; beyond it, TLS and a token, or it does not open."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_component.errors import DoorKeysError, ExposedDoorError
from edge_component.serving.exposure import DoorKeys, TcpAddress, check_exposure, load_door_keys

KEYS = DoorKeys(b"certificate", b"key", "s3cret-s3cret-s3cret")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    check_exposure("rest", TcpAddress(host, 8000), None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.4", "10.0.0.1", "device.local", "localhost.evil.example", ""]
)
def test_beyond_it_a_door_needs_keys(host: str) -> None:
    with pytest.raises(ExposedDoorError, match="beyond loopback") as refusal:
        check_exposure("rest", TcpAddress(host, 8000), None)
    assert "127.0.0.1" in refusal.value.remedy
    check_exposure("rest", TcpAddress(host, 8000), KEYS)


@pytest.mark.parametrize(
    ("header", "is_admitted"),
    [
        ("Bearer s3cret-s3cret-s3cret", True),
        ("bearer s3cret-s3cret-s3cret", True),
        ("Bearer s3cret-s3cret-s3cre", False),
        ("Basic s3cret-s3cret-s3cret", False),
        ("s3cret-s3cret-s3cret", False),
        ("Bearer \u00e9", False),
        ("", False),
    ],
)
def test_tokens(header: str, is_admitted: bool) -> None:
    assert KEYS.admits(header) is is_admitted
    assert "s3cret" not in repr(KEYS)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    return (
        write_certificate(tmp_path / "door"),
        tmp_path / "door.key",
        write_private(tmp_path / "token", b"0123456789abcdef\n"),
    )


def write_private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def write_certificate(stem: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
    now = dt.datetime.now(dt.UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(1)
    ).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(stem.with_suffix(".key"), pem)
    path = stem.with_suffix(".pem")
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_keys_are_read(files) -> None:
    keys = load_door_keys(*files)
    assert keys.admits("Bearer 0123456789abcdef")
    assert keys.certificate.startswith(b"-----BEGIN CERTIFICATE")


def test_what_is_wrong_with_a_file_is_named(files, tmp_path: Path) -> None:
    certificate, key, token = files
    cases = [
        ((tmp_path / "missing.pem", key, token), "missing.pem: No such file"),
        ((certificate, key, write_private(tmp_path / "short", b"abc")), "short: a token is one line"),
        ((certificate, key, write_private(tmp_path / "empty", b"")), "empty: empty"),
        ((certificate, key, write_private(tmp_path / "long", b"x" * 5000)), "more than 4096 bytes"),
        ((write_certificate(tmp_path / "other"), key, token), "other.pem"),
        ((key, key, token), "door.key"),
    ]
    for paths, named in cases:
        with pytest.raises(DoorKeysError, match=named):
            load_door_keys(*paths)


def test_a_key_that_others_may_read_is_refused(files) -> None:
    files[1].chmod(0o644)
    with pytest.raises(DoorKeysError, match="chmod 600"):
        load_door_keys(*files)
