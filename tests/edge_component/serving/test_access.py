"""Who may use a socket: the decision for every peer, and the real file and kernel."""

import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from edge_component.config import RuntimeConfig
from edge_component.serving.access import OWNER_ONLY, Peer, SocketAccess, may_use, peer_of, socket_access
from edge_component.serving.listener import Door, Listener

OWN, OTHER, THIRD, GROUP = 1000, 1001, 1002, 50


@pytest.mark.parametrize(
    ("access", "user_id", "group_ids", "is_admitted"),
    [
        (OWNER_ONLY, OWN, {1}, True),
        (OWNER_ONLY, 0, {0}, True),
        (OWNER_ONLY, OTHER, {GROUP}, False),
        (SocketAccess(GROUP), OTHER, {GROUP}, True),
        (SocketAccess(GROUP), OTHER, {7, GROUP}, True),
        (SocketAccess(GROUP), OTHER, {7}, False),
        (SocketAccess(GROUP, frozenset({OTHER})), OTHER, {GROUP}, True),
        (SocketAccess(GROUP, frozenset({OTHER})), THIRD, {GROUP}, False),
        (SocketAccess(GROUP, frozenset({OTHER})), OTHER, {7}, False),
        (SocketAccess(GROUP, frozenset({OTHER})), OWN, {7}, True),
    ],
)
def test_who_is_admitted(access: SocketAccess, user_id: int, group_ids: set[int], is_admitted: bool) -> None:
    assert access.admits(Peer(1, user_id, frozenset(group_ids)), OWN) is is_admitted


@given(st.integers(1, 5), st.frozensets(st.integers(1, 5)), st.frozensets(st.integers(1, 5)))
def test_naming_users_never_admits_anybody_more(
    user_id: int, group_ids: frozenset[int], user_ids: frozenset[int]
) -> None:
    peer = Peer(1, user_id, group_ids)
    narrowed = SocketAccess(3, user_ids).admits(peer, own_user_id=9)
    assert not narrowed or SocketAccess(3).admits(peer, own_user_id=9)


def configured(**fields: str) -> tuple[SocketAccess, tuple[str, ...]]:
    return socket_access(replace(RuntimeConfig(), **fields), lambda _: True)


def test_without_configuration_a_socket_is_its_owners_alone() -> None:
    assert configured() == (OWNER_ONLY, ())
    assert OWNER_ONLY.mode == 0o600
    assert SocketAccess(GROUP).mode == 0o660


def test_names_and_ids_are_understood() -> None:
    assert configured(socket_group="daemon", socket_users="root, 1001") == (SocketAccess(1, frozenset({0, 1001})), ())
    assert configured(socket_group="50") == (SocketAccess(50), ())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"socket_group": "no-such-group"}, "socket_group: 'no-such-group'"),
        ({"socket_group": "daemon", "socket_users": "no-such-user"}, "socket_users: 'no-such-user'"),
        ({"socket_users": "root"}, "narrows socket_group"),
        ({"socket_group": "99999999999999"}, "socket_group: '99999999999999'"),
        ({"socket_group": str(2**32 - 1)}, f"socket_group: '{2**32 - 1}'"),
    ],
)
def test_an_unknown_name_opens_nothing_and_is_told(fields: dict[str, str], named: str) -> None:
    access, problems = configured(**fields)
    assert access == OWNER_ONLY
    assert any(named in problem for problem in problems)


def test_a_group_that_the_components_user_is_no_member_of_opens_nothing_and_is_told() -> None:
    access, (problem,) = socket_access(replace(RuntimeConfig(), socket_group="daemon"), lambda _: False)
    assert access == OWNER_ONLY
    assert "is no member of 'daemon'" in problem


def test_a_group_may_be_given_as_a_number_and_emptied_again() -> None:
    config, problems = RuntimeConfig.from_document({"socket_group": 50, "socket_users": ""})
    assert (config.socket_group, config.socket_users, problems) == ("50", "", ())


@pytest.fixture
def open_listener(tmp_path: Path):
    opened: list[Listener] = []

    def make(access: SocketAccess) -> Path:
        tmp_path.chmod(0o755)
        listener = Listener(
            Door(tmp_path / "door.sock", socket.SOCK_STREAM, access, 4), lambda c: c.sendall(b"served"), lambda c: None
        )
        listener.open()
        opened.append(listener)
        return tmp_path / "door.sock"

    yield make
    for listener in opened:
        listener.stop(1.0)


def ask(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        return client.recv(16)


def test_the_file_has_mode_and_group_and_the_owner_is_served(open_listener) -> None:
    path = open_listener(OWNER_ONLY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask(path) == b"served"


def test_a_groups_socket_is_the_groups(open_listener) -> None:
    path = open_listener(SocketAccess(os.getegid()))
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, os.getegid())


def test_the_kernel_names_the_peer() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.process_id, peer.user_id) == (os.getpid(), os.geteuid())
    assert peer.group_ids >= {os.getegid(), *os.getgroups()}


AS_SOMEBODY = """
import os, socket, sys
os.setgroups([int(g) for g in sys.argv[3].split(",") if g]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
client = socket.socket(socket.AF_UNIX); client.settimeout(10)
try:
    client.connect(sys.argv[1])
except PermissionError:
    print("no permission")
else:
    print(client.recv(16).decode(errors="replace") or "hung up")
"""


def ask_as(path: Path, user_id: int, groups: str = "") -> str:
    command = [sys.executable, "-c", AS_SOMEBODY, str(path), str(user_id), groups]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


@pytest.mark.root
def test_other_users_meet_the_file_and_then_the_kernel(open_listener, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to connect as other users")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = open_listener(SocketAccess(4242, frozenset({5001})))
    assert ask_as(path, 5001, "4242") == "served"
    assert ask_as(path, 5002) == "no permission"
    assert ask_as(path, 5002, "4242") == "hung up"  # of the group, but not one of the users
    path.chmod(0o666)  # a wrong mode alone opens nothing
    assert ask_as(path, 5001) == "hung up"


def test_whose_memory_counts_is_decided_by_membership() -> None:
    assert may_use(OWNER_ONLY, os.geteuid())
    assert not may_use(OWNER_ONLY, 1)
    assert may_use(SocketAccess(1), 1)  # user daemon is of the group daemon
    assert not may_use(SocketAccess(1, frozenset({2})), 1)
    assert not may_use(SocketAccess(1), 2)
    assert not may_use(SocketAccess(1), 4_000_000)
