"""Who may use this device's local sockets: the file's mode and group, and what the kernel says of whoever connects.

The failures this exists for: a prediction socket that every program of the device may use, because somebody needed one
other program to; and a socket whose mode is right but whose folder's was not for a moment. So a socket is its owner's
alone (0600) unless a group is configured (0660 and that group), and independently of the file, each connection's peer is
asked of the kernel (``SO_PEERCRED``, which a client cannot forge) and compared.

A group that does not exist leaves the socket closed to all but the owner, and says so: the device serves on, and
nothing is open by mistake. TCP is exposure.py's. Pure, but for :func:`peer_of` and the look-up of names.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_component.config import RuntimeConfig

SO_PEERGROUPS = 59
"""``asm-generic/socket.h``, Linux 4.13 and later; the ``socket`` module has no name for it."""
GROUPS_BYTES_MAX = 1_024
"""What Python's ``getsockopt`` can take: 256 groups. Of a peer with more, only its own group counts."""
ROOT = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, when it connected; ``group_ids`` holds its own group and the supplementary ones."""

    process_id: int
    user_id: int
    group_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class SocketAccess:
    """Who may connect besides root and the component's own user.

    Attributes:
        group_id: members of this group; ``None`` for nobody.
        user_ids: if not empty, only these of the group's members.
    """

    group_id: int | None = None
    user_ids: frozenset[int] = frozenset()

    @property
    def mode(self) -> int:
        """Of the socket's file."""
        return 0o600 if self.group_id is None else 0o660

    def admits(self, peer: Peer, own_user_id: int) -> bool:
        """Whether this peer may be served."""
        if peer.user_id in {ROOT, own_user_id}:
            return True
        if self.group_id is None or self.group_id not in peer.group_ids:
            return False
        return not self.user_ids or peer.user_id in self.user_ids


OWNER_ONLY = SocketAccess()
ID_MAX = 2**32 - 2
"""Larger numbers are no ids to a kernel; they are looked up as names, and not found."""


def peer_of(connection: socket.socket) -> Peer:
    """The process that connected a Unix socket.

    Raises:
        OSError: the socket is no Unix socket.
    """
    layout = struct.Struct("3i")
    process_id, user_id, group_id = layout.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    )
    return Peer(process_id, user_id, frozenset({group_id, *_supplementary(connection)}))


def _supplementary(connection: socket.socket) -> tuple[int, ...]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES_MAX)
    except OSError:  # an older kernel, or too many: then only the peer's own group counts
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)


def may_give(group_id: int) -> bool:
    """Whether the kernel lets this process put a file into the group: root may, and members."""
    return own_user_id() == ROOT or group_id in {os.getegid(), *os.getgroups()}


def socket_access(
    config: RuntimeConfig, can_give: Callable[[int], bool] = may_give
) -> tuple[SocketAccess, tuple[str, ...]]:
    """What the configuration asks for, as ids; with one sentence for each name that this device cannot use.

    Nothing is opened wider for such a name: an unknown group, or one that the component's user is no member of, admits
    nobody, and an unknown user is not admitted.
    """
    problems: list[str] = []
    group_ids = _ids("socket_group", [config.socket_group] if config.socket_group else [], _group_id, problems)
    if group_ids and not can_give(group_ids[0]):
        problems.append(
            f"configuration field socket_group: the component's user is no member of {config.socket_group!r} and "
            "cannot give it a socket; not admitted"
        )
        return OWNER_ONLY, tuple(problems)
    names = [name.strip() for name in config.socket_users.split(",") if name.strip()]
    user_ids = _ids("socket_users", names, _user_id, problems)
    if not group_ids:
        if names:
            problems.append("configuration field socket_users: narrows socket_group, which is not set; ignored")
        return OWNER_ONLY, tuple(problems)
    if names and not user_ids:
        return OWNER_ONLY, tuple(problems)
    return SocketAccess(group_ids[0], frozenset(user_ids)), tuple(problems)


def _ids(field: str, names: Iterable[str], find: Callable[[str], int], problems: list[str]) -> list[int]:
    found: list[int] = []
    for name in names:
        try:
            found.append(int(name) if _is_id(name) else find(name))
        except KeyError:
            problems.append(f"configuration field {field}: {name!r} is not known on this device; not admitted")
    return found


def _is_id(name: str) -> bool:
    return name.isdecimal() and len(name) <= len(str(ID_MAX)) and int(name) <= ID_MAX


def _group_id(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _user_id(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def may_use(access: SocketAccess, user_id: int) -> bool:
    """Whether a user, known by its id alone, is one whom this access is for; root is not unless it is our own user.

    For what belongs to a user, such as shared memory, where nobody has connected whom the kernel could name.
    """
    if user_id == own_user_id():
        return True
    if access.group_id is None or (access.user_ids and user_id not in access.user_ids):
        return False
    try:
        user = pwd.getpwuid(user_id)
    except KeyError:
        return False
    return access.group_id in os.getgrouplist(user.pw_name, user.pw_gid)


def own_user_id() -> int:
    """The component's user."""
    return os.geteuid()
