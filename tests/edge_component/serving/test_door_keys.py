"""A door's key files: what is wrong with one is named; what is renewed is used; what is renewed badly is not, and said."""

import datetime as dt
import errno
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_component.clock import ManualClock
from edge_component.errors import DoorKeysError
from edge_component.serving.door_keys import LOOK_S, DoorKeyring, load_door_keys
from edge_component.serving.exposure import KeyFiles
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    certificate = write_certificate(tmp_path / "door")
    return KeyFiles(certificate, tmp_path / "door.key", write_private(tmp_path / "token", f"{TOKEN}\n".encode()))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(dt.datetime.now(dt.UTC))


def test_keys_are_read(files: KeyFiles) -> None:
    loaded = load_door_keys(files)
    assert loaded.keys.admits(f"Bearer {TOKEN}")
    assert loaded.keys.certificate.startswith(b"-----BEGIN CERTIFICATE")
    assert loaded.ends_at > loaded.begins_at
    assert TOKEN not in repr(loaded)


def test_what_is_wrong_with_a_file_is_named(files: KeyFiles, tmp_path: Path) -> None:
    certificate, key, token = files.certificate, files.private_key, files.token
    os.mkfifo(tmp_path / "pipe", 0o600)
    foreign = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    cases = [
        ((tmp_path / "missing.pem", key, token), "missing.pem: No such file"),
        ((certificate, tmp_path / "missing.key", token), "missing.key: No such file"),
        ((certificate, key, tmp_path / "missing"), "missing: No such file"),
        ((certificate, key, write_private(tmp_path / "short", b"abc")), "short: a token is one line"),
        ((certificate, key, write_private(tmp_path / "lines", b"0123456789abcdef\nmore")), "lines: a token is one line"),
        ((certificate, key, write_private(tmp_path / "empty", b"")), "empty: empty"),
        ((certificate, key, write_private(tmp_path / "long", b"x" * 5000)), "more than 4096 bytes"),
        ((certificate, key, tmp_path / "pipe"), "pipe: no ordinary file"),
        ((certificate, tmp_path / "pipe", token), "pipe: no ordinary file"),
        ((tmp_path, key, token), "no ordinary file"),
        ((Path("nul\0"), key, token), "null"),
        ((write_certificate(tmp_path / "other"), key, token), "other.pem and .*door.key are no certificate .*MISMATCH"),
        ((certificate, write_private(tmp_path / "foreign.key", foreign), token), "foreign.key.*MISMATCH"),
        ((key, key, token), "door.key"),
        ((write_certificate(tmp_path / "locked", password=b"secret"), tmp_path / "locked.key", token), "unencrypted key"),
        ((certificate, write_private(tmp_path / "noise", os.urandom(500)), token), "noise"),
    ]  # fmt: skip
    for paths, named in cases:
        with pytest.raises(DoorKeysError, match=named) as refusal:
            load_door_keys(KeyFiles(*paths))
        assert refusal.value.remedy


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_secret_that_others_have_a_part_in_is_refused_by_name(files: KeyFiles, mode: int) -> None:
    for secret in (files.private_key, files.token):
        secret.chmod(mode)
        with pytest.raises(DoorKeysError, match=f"{secret.name}: its mode is {mode:o}") as refusal:
            load_door_keys(files)
        assert refusal.value.remedy == f"chmod 600 {secret}"
        secret.chmod(0o600)
    load_door_keys(files)


def test_renewed_files_are_used_and_those_that_have_not_changed_are_not_read(
    files: KeyFiles, clock: ManualClock
) -> None:
    keyring = DoorKeyring(files, clock)
    first = keyring.current()
    clock.advance(LOOK_S)
    assert keyring.current() is first
    write_certificate(files.certificate.with_suffix(""))
    assert keyring.current() is first, "looked at a moment ago"
    clock.advance(LOOK_S)
    second = keyring.current()
    assert second.keys.certificate == files.certificate.read_bytes() != first.keys.certificate
    assert keyring.warnings() == ()
    write_private(files.token, b"another-token-of-mine")
    clock.advance(LOOK_S)
    assert not keyring.current().keys.admits(f"Bearer {TOKEN}")
    assert keyring.current().keys.admits("Bearer another-token-of-mine")


@pytest.mark.parametrize("call", ["os.memfd_create", "os.open"])
def test_a_renewal_that_could_not_be_read_for_want_of_descriptors_is_read_when_there_are_some(
    files: KeyFiles, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    keyring = DoorKeyring(files, clock)
    first = keyring.current()
    write_certificate(files.certificate.with_suffix(""))
    clock.advance(LOOK_S)

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(call, refuse)
        assert keyring.current() is first
        (warning,) = keyring.warnings()
        assert "Too many open files" in warning
    clock.advance(LOOK_S)
    assert keyring.current().keys.certificate == files.certificate.read_bytes() != first.keys.certificate
    assert keyring.warnings() == ()


def test_a_folder_that_could_not_be_looked_into_for_a_while_is_no_worry_afterwards(
    files: KeyFiles, clock: ManualClock
) -> None:
    keyring = DoorKeyring(files, clock)
    first = keyring.current()
    folder = files.token.parent
    folder.rename(folder.with_name("away"))
    clock.advance(LOOK_S)
    assert "No such file" in keyring.warnings()[0]
    folder.with_name("away").rename(folder)
    clock.advance(LOOK_S)
    assert keyring.warnings() == ()
    assert keyring.current() is first


def test_a_renewal_that_is_half_done_or_wrong_leaves_the_keys_in_use_and_is_said(
    files: KeyFiles, clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = DoorKeyring(files, clock)
    first = keyring.current()
    write_certificate(tmp_path / "new")
    (tmp_path / "new.pem").replace(files.certificate)  # and its key not yet
    for _ in range(3):
        clock.advance(LOOK_S)
        assert keyring.current() is first
    (warning,) = keyring.warnings()
    assert "MISMATCH" in warning
    assert caplog.text.count("MISMATCH") == 1
    (tmp_path / "new.key").replace(files.private_key)
    clock.advance(LOOK_S)
    assert keyring.current().keys.certificate == files.certificate.read_bytes() != first.keys.certificate
    assert keyring.warnings() == ()
    files.token.unlink()
    clock.advance(LOOK_S)
    assert keyring.current().keys.admits(f"Bearer {TOKEN}")
    assert "token: No such file" in keyring.warnings()[0]
    write_private(files.token, TOKEN.encode())
    clock.advance(LOOK_S)
    assert keyring.warnings() == ()


def test_an_ending_certificate_is_said(files: KeyFiles, clock: ManualClock) -> None:
    keyring = DoorKeyring(files, clock)
    clock.advance(350 * 86_400)
    assert f"{files.certificate}: the certificate ends at" in keyring.warnings()[0]
    clock.advance(20 * 86_400)
    assert "ended at" in keyring.warnings()[0]
