"""A channel whose model takes a detour (batching, carried state): inputs are read where they lie, answers are copied in.

The same face as :class:`~edge_component.serving.channel.Binding`, for models that cannot be bound to one client's memory
because their tensors are joined with others' or carried from request to request. Belongs to one connection's thread.
"""

import struct
from typing import Protocol

from edge_component.contracts.fastpath import Region, shape_problem
from edge_component.inference.deadline import Leash
from edge_component.inference.errors import AnswerTooLargeError, OutputMismatchError
from edge_component.inference.router import ActiveModel
from edge_component.inference.session import Array, tensor_dtype
from edge_component.inference.versions import Turn
from edge_component.serving.layout import Layout


class Memory(Protocol):
    """The channel, as far as an answer needs it."""

    layout: Layout
    sequence: str

    def view(self, region: Region, shape: tuple[int, ...], slot: int) -> Array:
        """A tensor in shared memory."""


class Detoured:
    """One generation of the model on one slot, for one set of input shapes."""

    def __init__(
        self, active: ActiveModel, inputs: dict[str, Array], dimensions: bytes, memory: Memory, slot: int
    ) -> None:
        """Nothing is bound."""
        self.active = active
        self.inputs = inputs
        self.dimensions = dimensions
        self._memory = memory
        self._slot = slot

    def run(self, leash: Leash, allowed_s: float) -> tuple[dict[str, Array], bytes]:
        """Compute; returns the outputs as views on the slot, and their packed dimensions.

        Raises:
            RequestError: see :class:`~edge_component.inference.versions.Detour`; or an answer that does not fit.
        """
        assert self.active.detour is not None, "this is what a detour is run by"
        found = self.active.detour.run(self.inputs, leash, allowed_s, Turn(self._memory.sequence))
        outputs = {
            region.spec.name: copied_in(self._memory, region, found[region.spec.name], self._slot)
            for region in self._memory.layout.outputs
        }
        return outputs, packed_dimensions(outputs)


def copied_in(memory: Memory, region: Region, array: Array, slot: int) -> Array:
    """Copy an output to where the client reads it; returns the view.

    Raises:
        OutputMismatchError: of another type or shape than the manifest promises.
        AnswerTooLargeError: it does not fit its region.
    """
    if shape_problem(region.spec, array.shape) or array.dtype != tensor_dtype(region.spec.dtype):
        raise OutputMismatchError(
            f"output {region.spec.name} came out as {array.dtype}{list(array.shape)}, "
            f"the manifest promises {region.spec.dtype}{list(region.spec.shape)}"
        )
    if array.nbytes > region.capacity_bytes:
        raise AnswerTooLargeError(
            f"output {region.spec.name} takes {array.nbytes} bytes; its region has {region.capacity_bytes}",
            array.nbytes,
        )
    view = memory.view(region, array.shape, slot)
    view[...] = array
    return view


def packed_dimensions(outputs: dict[str, Array]) -> bytes:
    """As they follow an answer's head.

    Raises:
        OutputMismatchError: one is beyond what an answer can say; there is such a thing beside one of zero.
    """
    sizes = [size for array in outputs.values() for size in array.shape]
    try:
        return struct.pack(f"<{len(sizes)}I", *sizes)
    except struct.error as error:
        raise OutputMismatchError(f"an output came out with a dimension of {max(sizes)}") from error
