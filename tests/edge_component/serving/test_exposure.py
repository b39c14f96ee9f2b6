"""A TCP door on loopback needs nothing; beyond it, TLS and a token, or it does not open."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_component.config import RuntimeConfig
from edge_component.errors import DoorKeysError, ExposedDoorError
from edge_component.serving.exposure import (
    DoorKeys,
    KeyFiles,
    TcpAddress,
    certificate_warning,
    check_exposure,
    key_files,
)

KEYS = DoorKeys(b"certificate", b"key", "s3cret-s3cret-s3cret")
WORK = Path("/work-folder")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    check_exposure("rest", TcpAddress(host, 8000), has_keys=False)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.168.1.4", "10.0.0.1", "::ffff:192.168.1.4", "device.local", "localhost.evil.example", ""],
)
def test_beyond_it_a_door_needs_keys(host: str) -> None:
    with pytest.raises(ExposedDoorError, match="beyond loopback") as refusal:
        check_exposure("rest", TcpAddress(host, 8000), has_keys=False)
    assert "oip_host to 127.0.0.1" in refusal.value.remedy
    check_exposure("rest", TcpAddress(host, 8000), has_keys=True)


def test_addresses_as_urls_write_them() -> None:
    assert TcpAddress("127.0.0.1", 80).name == "127.0.0.1:80"
    assert TcpAddress("::1", 80).name == "[::1]:80"


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


def test_keys_are_named_all_or_not_at_all() -> None:
    none = RuntimeConfig()
    assert key_files(none, WORK) is None
    whole = replace(none, oip_certificate_file="door.pem", oip_key_file="/etc/door.key", oip_token_file="token")
    assert key_files(whole, WORK) == KeyFiles(WORK / "door.pem", Path("/etc/door.key"), WORK / "token")
    with pytest.raises(DoorKeysError, match="oip_key_file and oip_token_file: not set, and oip_certificate_file is"):
        key_files(replace(none, oip_certificate_file="door.pem"), WORK)
    with pytest.raises(DoorKeysError, match="oip_token_file: not set"):
        key_files(replace(whole, oip_token_file=""), WORK)


@pytest.mark.parametrize(
    ("began_days_ago", "life_days", "told"),
    [
        (0, 365, ""),
        (343, 365, ""),
        (345, 365, "ends at 2026-06-21 00:00 UTC, in 20 days"),
        (364, 365, "in 24 hours"),
        (365, 365, "ended at"),
        (800, 365, "ended at 2025-03-23"),
        (-1, 365, "valid only from"),
        (0.75, 1, ""),  # one that lives a day is renewed every day: a fifth of its life
        (0.85, 1, "in 3 hours"),
        (0.99, 1, "in less than an hour"),
    ],
)
def test_a_certificate_is_spoken_of_before_it_ends(began_days_ago: float, life_days: int, told: str) -> None:
    begins_at = NOW - timedelta(days=began_days_ago)
    warning = certificate_warning(begins_at, begins_at + timedelta(days=life_days), NOW)
    assert told in warning
    assert bool(warning) is bool(told)
