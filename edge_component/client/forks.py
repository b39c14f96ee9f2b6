"""What a fork leaves a child: clients that have to connect anew.

The failure this exists for: parent and child on one connection. Both ask on it with the same sequence numbers and write
into the same shared memory, so either may read the answer to the other's request, and nothing tells. Servers that load
first and fork then (gunicorn, ``multiprocessing``) do just that. So the child's copies of all clients let go of their
connections before the child runs on; the parent's are not touched, since closing a descriptor is not hanging up.

Nothing of it costs a request anything. Arrays of an answer that was asked for with ``copy=False``, and the inputs of a
``PreparedRequest``, still lie in the parent's memory: leave those to the parent.
"""

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """A client, or a runtime in this process."""

    def _forget(self) -> None:
        """Let go of the connection without a word on it, and of locks that other threads of the parent held."""


_clients: "WeakSet[Forgetful]" = WeakSet()


def forget_in_children(client: Forgetful) -> None:
    """From now on, for as long as it lives."""
    _clients.add(client)


def _forget_all() -> None:
    for client in list(_clients):
        client._forget()  # noqa: SLF001 - the protocol's, and nobody else's


os.register_at_fork(after_in_child=_forget_all)
