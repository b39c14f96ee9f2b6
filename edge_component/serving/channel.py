"""The server's end of one channel: sealed shared memory, and the session bound to it.

The failures this exists for: a client that shrinks the memory under a running session (the file is sealed by the server,
which made it), and a session still bound to a model that no longer serves (a binding holds for one exact generation and
one set of shapes, and is made anew when either changes).

Inputs are read where they lie, and outputs written where they will be read as soon as their shape is known.

Belongs to one connection's thread.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from math import prod

import numpy as np

from edge_component.contracts.fastpath import REQUEST_HEAD, Open, Opened, Region, shape_problem
from edge_component.inference.errors import InputShapeError, ProtocolViolationError, StaleChannelError
from edge_component.inference.router import ActiveModel, Route, Router, Tally
from edge_component.inference.session import Array
from edge_component.serving.binding import Binding
from edge_component.serving.detoured import Detoured
from edge_component.serving.layout import Layout

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
MEMORY_NAME_BYTES_MAX = 200
"""The kernel takes 249."""


class Channel:
    """One client's way to one model name."""

    def __init__(
        self,
        number: int,
        route: Route,
        router: Router,
        active: ActiveModel,
        layout: Layout,
        asked: Open,
        forget: Callable[["Channel"], None],
    ) -> None:
        """Make the memory; :attr:`descriptor` is to be sent to the client and closed.

        ``forget`` is called, perhaps by another thread, when whatever is held of the active model must be let go.

        Raises:
            OSError: no memory or no descriptors.
        """
        self.number = number
        self.route = route
        self.key = asked.key or ""
        self.sequence = asked.sequence or ""
        self._router = router
        self._forget = forget
        self.layout = layout
        self.named_generation = active.generation
        self._tensors = (active.inputs, active.outputs)
        self.descriptor, self.memory = mapped_memory(f"edgewright-{route.name}", layout.size_bytes)
        self._base: Array = np.frombuffer(self.memory, np.uint8)
        self.bindings: dict[int, Binding | Detoured] = {}
        self._dimensions = struct.Struct(f"<{sum(len(region.spec.shape) for region in layout.inputs)}I")
        self.tally: Tally = router.open_tally(route, active.generation)  # last, since only close() gives these two back
        router.follow(route, self)

    def describe(self, active: ActiveModel) -> Opened:
        """What the client must know."""
        return Opened(
            channel=self.number,
            model=active.ref,
            generation=active.generation,
            inputs=self.layout.inputs,
            outputs=self.layout.outputs,
            slot_count=self.layout.slot_count,
            slot_bytes=self.layout.slot_bytes,
            nan_policy=active.session.nan_policy,
        )

    def close(self) -> None:
        """Stop counting; the memory goes when the last view on it does."""
        self._router.unfollow(self.route, self)
        self.let_go()
        self._router.close_tally(self.route, self.tally)

    def let_go(self) -> None:
        """See :class:`~edge_component.inference.router.Follower`: replaces the table as a whole, so it needs no lock."""
        self.bindings = {}
        self._forget(self)

    def bind(self, active: ActiveModel, slot: int, dimensions: bytes) -> Binding | Detoured:
        """Bind the model that answers to a slot for these input dimensions; keeping it in :attr:`bindings` is the caller's.

        Raises:
            StaleChannelError: the model has other tensors than the channel was laid out for.
            ProtocolViolationError, InputShapeError: the request's slot or dimensions are impossible.
        """
        if slot >= self.layout.slot_count:
            raise ProtocolViolationError(f"slot {slot}; the channel has {self.layout.slot_count}")
        if (active.inputs, active.outputs) != self._tensors:  # by a switch, or by a rule that carries some of them
            raise StaleChannelError(f"{active.ref.name} {active.ref.version} takes or gives other tensors now")
        views = self._input_views(slot, dimensions)
        kind = Binding if active.detour is None else Detoured
        return kind(active, views, dimensions, self, slot)

    def count_for(self, active: ActiveModel) -> None:
        """Whose answers :attr:`tally` counts from now on: another than before after a switch, or where several may answer."""
        if self.tally.generation != active.generation:
            self._router.close_tally(self.route, self.tally)
            self.tally = self._router.open_tally(self.route, active.generation)

    def view(self, region: Region, shape: tuple[int, ...], slot: int) -> Array:
        """A tensor in shared memory; the caller has checked that it fits."""
        flat: Array = np.frombuffer(
            self.memory, np.dtype(region.spec.dtype), prod(shape), slot * self.layout.slot_bytes + region.offset
        )
        return flat.reshape(shape)

    def address(self, region: Region, slot: int) -> int:
        """Where a tensor begins in this process."""
        return int(self._base.ctypes.data) + slot * self.layout.slot_bytes + region.offset

    def _input_views(self, slot: int, dimensions: bytes) -> dict[str, Array]:
        if len(dimensions) != self._dimensions.size:
            raise ProtocolViolationError(
                f"a request of {REQUEST_HEAD.size + len(dimensions)} bytes; this channel's have "
                f"{REQUEST_HEAD.size + self._dimensions.size}"
            )
        sizes = iter(self._dimensions.unpack(dimensions))
        views: dict[str, Array] = {}
        for region in self.layout.inputs:
            shape = tuple(next(sizes) for _ in region.spec.shape)
            problem = shape_problem(region.spec, shape)
            needed_bytes = prod(shape) * np.dtype(region.spec.dtype).itemsize
            if not problem and needed_bytes > region.capacity_bytes:
                problem = f"{region.spec.name} needs {needed_bytes} bytes; its region has {region.capacity_bytes}"
            if problem:
                raise InputShapeError(problem)
            views[region.spec.name] = self.view(region, shape, slot)
        return views


def mapped_memory(name: str, size_bytes: int) -> tuple[int, mmap.mmap]:
    """:func:`sealed_memory`, and a mapping of all of it."""
    descriptor = sealed_memory(name, size_bytes)
    try:
        return descriptor, mmap.mmap(descriptor, size_bytes)
    except OSError:
        os.close(descriptor)
        raise


def sealed_memory(name: str, size_bytes: int) -> int:
    """A memory file that can never change its size again; returns its descriptor. ``name`` is told as far as it can be."""
    told = ascii(name)[1:-1][:MEMORY_NAME_BYTES_MAX]
    descriptor = os.memfd_create(told, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
