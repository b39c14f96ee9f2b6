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
from math import prod

import numpy as np

from edge_component.contracts.fastpath import REQUEST_HEAD, Open, Opened, Region, shape_problem
from edge_component.inference.deadline import Leash
from edge_component.inference.errors import (
    InputShapeError,
    ProtocolViolationError,
    RunDeadlineError,
    RunFailedError,
    StaleChannelError,
)
from edge_component.inference.router import ActiveModel, Route, Router, Tally
from edge_component.inference.session import Array, refuse_nan
from edge_component.serving.detoured import Detoured, copied_in, packed_dimensions
from edge_component.serving.layout import Layout, fixed_bytes

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


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
    ) -> None:
        """Make the memory; :attr:`descriptor` is to be sent to the client and closed.

        Raises:
            OSError: no memory or no descriptors.
        """
        self.number = number
        self.route = route
        self.key = asked.key or ""
        self.sequence = asked.sequence or ""
        self._router = router
        self.layout = layout
        self.tally: Tally = router.open_tally(route, active.generation)
        self.named_generation = active.generation
        self._tensors = (active.inputs, active.outputs)
        self.descriptor = sealed_memory(f"edgewright-{route.name}", layout.size_bytes)
        self.memory = mmap.mmap(self.descriptor, layout.size_bytes)
        self._base: Array = np.frombuffer(self.memory, np.uint8)
        self._bindings: list[Binding | Detoured | None] = [None] * layout.slot_count
        router.follow(route, self)
        self._dimensions = struct.Struct(f"<{sum(len(region.spec.shape) for region in layout.inputs)}I")

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
        """See :class:`~edge_component.inference.router.Follower`: replaces the list as a whole, so it needs no lock."""
        self._bindings = [None] * self.layout.slot_count

    def binding(self, active: ActiveModel, slot: int, dimensions: bytes) -> "Binding | Detoured":
        """The active model, bound to a slot for these input dimensions.

        Raises:
            StaleChannelError: the model has other tensors than the channel was laid out for.
            ProtocolViolationError, InputShapeError: the request's slot or dimensions are impossible.
        """
        if slot >= len(self._bindings):
            raise ProtocolViolationError(f"slot {slot}; the channel has {len(self._bindings)}")
        bound = self._bindings[slot]
        if bound is not None and bound.active is active and bound.dimensions == dimensions:
            return bound
        if bound is None or bound.active is not active:
            self._follow(active)
        kind = Binding if active.detour is None else Detoured
        bound = self._bindings[slot] = kind(active, self._input_views(slot, dimensions), dimensions, self, slot)
        return bound

    def view(self, region: Region, shape: tuple[int, ...], slot: int) -> Array:
        """A tensor in shared memory; the caller has checked that it fits."""
        flat: Array = np.frombuffer(
            self.memory, np.dtype(region.spec.dtype), prod(shape), slot * self.layout.slot_bytes + region.offset
        )
        return flat.reshape(shape)

    def address(self, region: Region, slot: int) -> int:
        """Where a tensor begins in this process."""
        return int(self._base.ctypes.data) + slot * self.layout.slot_bytes + region.offset

    def _follow(self, active: ActiveModel) -> None:
        """A switch has happened: same tensors, or the client must open anew."""
        if (active.inputs, active.outputs) != self._tensors:
            raise StaleChannelError(f"{active.ref.name} {active.ref.version} has other inputs or outputs")
        if self.tally.generation != active.generation:
            self._router.close_tally(self.route, self.tally)
            self.tally = self._router.open_tally(self.route, active.generation)

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


class Binding:
    """One generation of the model bound to one slot, for one set of input shapes.

    Outputs whose shape is known are written where the client reads them. The shape of a dynamic output is first learned
    from a run that computes into ONNX Runtime's own memory; from then on it counts as known. If a later run has another
    shape for the same input shapes (it depends on the values), ONNX Runtime refuses it, the run is repeated the first
    way, and the binding stays with that way.
    """

    def __init__(
        self, active: ActiveModel, inputs: dict[str, Array], dimensions: bytes, channel: Channel, slot: int
    ) -> None:
        """Bind the inputs; outputs follow with the first run."""
        self.active = active
        self.inputs = inputs
        self.dimensions = dimensions
        self._channel = channel
        self._slot = slot
        self._run = active.session.ort_session.run_with_iobinding
        self._nan_checked = active.session.nan_policy == "refuse"
        self._io = active.session.ort_session.io_binding()
        for region in channel.layout.inputs:
            view = inputs[region.spec.name]
            self._io.bind_input(region.spec.name, "cpu", 0, view.dtype.type, view.shape, channel.address(region, slot))
        self._may_settle = True
        self._settled: tuple[dict[str, Array], bytes] | None = None
        if all(fixed_bytes(region.spec) is not None for region in channel.layout.outputs):
            self._settle({region.spec.name: region.spec.shape for region in channel.layout.outputs})

    def run(self, leash: Leash, allowed_s: float) -> tuple[dict[str, Array], bytes]:
        """Compute; returns the outputs as views on the slot, and their packed dimensions.

        Raises:
            RequestError: NaN refused, failed, stopped by its deadline, or an answer that does not fit.
        """
        if self._nan_checked:
            for region in self._channel.layout.inputs:
                refuse_nan(region.spec, self.inputs[region.spec.name])
        if self._settled is None:
            return self._run_unsettled(leash, allowed_s)
        try:
            self._compute(leash, allowed_s)
        except RunFailedError:
            if all(fixed_bytes(region.spec) is not None for region in self._channel.layout.outputs):
                raise
            self._settled, self._may_settle = None, False
            return self._run_unsettled(leash, allowed_s)
        return self._settled

    def _run_unsettled(self, leash: Leash, allowed_s: float) -> tuple[dict[str, Array], bytes]:
        for region in self._channel.layout.outputs:
            self._io.bind_output(region.spec.name, "cpu")
        self._compute(leash, allowed_s)
        outputs = {
            region.spec.name: copied_in(self._channel, region, value.numpy(), self._slot)
            for region, value in zip(self._channel.layout.outputs, self._io.get_outputs(), strict=True)
        }
        if self._may_settle:
            self._settle({name: array.shape for name, array in outputs.items()})
        return outputs, packed_dimensions(outputs)

    def _settle(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """From now on write the outputs where the client reads them."""
        views: dict[str, Array] = {}
        for region in self._channel.layout.outputs:
            name = region.spec.name
            view = views[name] = self._channel.view(region, shapes[name], self._slot)
            address = self._channel.address(region, self._slot)
            self._io.bind_output(name, "cpu", 0, view.dtype.type, view.shape, address)
        self._settled = views, packed_dimensions(views)

    def _compute(self, leash: Leash, allowed_s: float) -> None:
        leash.start(allowed_s)
        try:
            self._run(self._io, leash.options)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes from C++
            if leash.end():
                raise RunDeadlineError(f"stopped after {allowed_s:g} s") from error
            raise RunFailedError(f"ONNX Runtime failed in mid-run: {str(error)[:300]}") from error
        leash.end()


def sealed_memory(name: str, size_bytes: int) -> int:
    """A memory file that can never change its size again; returns its descriptor."""
    descriptor = os.memfd_create(name[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
