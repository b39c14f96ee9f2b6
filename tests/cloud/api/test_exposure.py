"""Which addresses the API may listen on with what, as a table; and what a token and its file must be."""

import base64
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cloud.api.door import Door
from cloud.api.door_token import DoorKeysError, admits, configured_token, read_token
from cloud.api.exposure import ExposedDoorError, TcpAddress, check_exposure, names_loopback
from cloud.settings import Settings
from tests.edge_component.serving.certificates import TOKEN, write_certificate, write_private

LOOPBACK = ("127.0.0.1", "127.8.9.1", "::1", "localhost")
BEYOND = ("0.0.0.0", "::", "10.0.0.7", "fe80::1", "fleet.example", "localhost.example", "", "127.0.0.1.example")
RULES = [  # token, TLS, proxy: what is refused beyond loopback
    (False, False, False, "without a token"),
    (False, True, False, "without a token"),
    (False, False, True, "without a token"),
    (False, True, True, "without a token"),
    (True, False, False, "plain HTTP"),
    (True, True, False, None),
    (True, False, True, None),
    (True, True, True, None),
]


@pytest.mark.parametrize(("token", "tls", "proxy", "refused"), RULES)
def test_beyond_loopback_only_with_a_token_and_tls(token: bool, tls: bool, proxy: bool, refused: str | None) -> None:
    for host in LOOPBACK:
        check_exposure(TcpAddress(host, 1), has_token=token, has_tls=tls, behind_tls_proxy=proxy)
    for host in BEYOND:
        address = TcpAddress(host, 1)
        if refused is None:
            check_exposure(address, has_token=token, has_tls=tls, behind_tls_proxy=proxy)
            continue
        with pytest.raises(ExposedDoorError, match=refused) as caught:
            check_exposure(address, has_token=token, has_tls=tls, behind_tls_proxy=proxy)
        assert caught.value.remedy


@pytest.mark.parametrize("header", ["localhost", "LOCALHOST:1", "127.0.0.1:8008", "[::1]", "[::1]:80", "127.0.0.2"])
def test_a_request_may_call_this_machine_by_a_loopback_name(header: str) -> None:
    assert names_loopback(header)


@pytest.mark.parametrize(
    "header", ["", ":80", "evil.example", "localhost.evil.example:1", "10.0.0.7", "[::1", "[fe80::1]:1"]
)
def test_or_by_no_other(header: str) -> None:
    assert not names_loopback(header)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_the_token_comes_as_a_bearer_s_or_as_a_password_for_reading() -> None:
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert admits(TOKEN, f"Bearer {TOKEN}", method)
        assert admits(TOKEN, f"bearer  {TOKEN}", method)
        assert admits(TOKEN, basic(f"anybody:{TOKEN}"), method) == (method in {"GET", "HEAD"})


@given(
    st.one_of(
        st.text(max_size=60), st.text(max_size=40).map(lambda text: f"Bearer {text}"), st.text(max_size=40).map(basic)
    )
)
def test_nothing_else_is_the_token(authorization: str) -> None:
    assert not admits(TOKEN, authorization, "GET")


@pytest.mark.parametrize(
    "authorization", [TOKEN, f"Bearer {TOKEN}x", "Bearer", "Basic", basic(TOKEN), basic(f"{TOKEN}:"), f"Digest {TOKEN}"]
)
def test_what_is_nearly_it_is_not(authorization: str) -> None:
    assert not admits(TOKEN, authorization, "GET")


def test_a_token_file_is_one_line_for_its_owner_alone(tmp_path: Path) -> None:
    assert read_token(write_private(tmp_path / "token", f"{TOKEN}\n".encode())) == TOKEN
    cases = [
        (tmp_path / "missing", "missing: No such file"),
        (tmp_path, "no ordinary file"),
        (write_private(tmp_path / "short", b"abc"), "short: a token is one line"),
        (write_private(tmp_path / "lines", b"0123456789abcdef\nmore"), "lines: a token is one line"),
        (write_private(tmp_path / "empty", b""), "empty: empty"),
        (write_private(tmp_path / "long", b"x" * 5000), "more than 4096 bytes"),
    ]
    for path, named in cases:
        with pytest.raises(DoorKeysError, match=named):
            read_token(path)
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(DoorKeysError, match="its mode is 640") as caught:
        read_token(tmp_path / "token")
    assert caught.value.remedy == f"chmod 600 {tmp_path / 'token'}"


def test_which_token_is_configured(tmp_path: Path) -> None:
    file = str(write_private(tmp_path / "token", TOKEN.encode()))
    assert configured_token(Settings()) == ""
    assert configured_token(Settings(api_token_file=file)) == TOKEN
    assert configured_token(Settings(api_token="another-token-of-mine")) == "another-token-of-mine"
    assert configured_token(Settings(api_token="another-token-of-mine"), file) == TOKEN
    with pytest.raises(DoorKeysError, match="both set"):
        configured_token(Settings(api_token=TOKEN, api_token_file=file))
    with pytest.raises(DoorKeysError, match="EDGEWRIGHT_API_TOKEN: a token is") as caught:
        configured_token(Settings(api_token="secret"))
    assert "secret" not in str(caught.value)
    assert TOKEN not in repr(Settings(api_token=TOKEN))


def test_a_door_is_settled_before_anything_is_opened(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "door")
    settings = Settings(api_token=TOKEN)
    with pytest.raises(DoorKeysError, match="go together"):
        Door.settled(settings, TcpAddress("127.0.0.1", 0), key_files=(certificate, None))
    with pytest.raises(ExposedDoorError):
        Door.settled(settings, TcpAddress("0.0.0.0", 0))
    door = Door.settled(settings, TcpAddress("0.0.0.0", 0), key_files=(certificate, tmp_path / "door.key"))
    assert door.token == TOKEN
    assert TOKEN not in repr(door)
