"""The client's end of one channel: numpy views on the shared memory that the runtime handed out.

It copies a caller's arrays into the next slot and reads answers out of it. The runtime decides where everything lies
(see contracts/fastpath.py); this side only refuses what can be refused early, naming the tensor.

Belongs to one connection and one thread at a time.
"""

import mmap
import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_component.client.errors import InputError, ProtocolError
from edge_component.contracts.fastpath import REQUEST_HEAD, Kind, Opened, Region, shape_problem
from edge_component.contracts.heartbeat import ModelRef

Array = NDArray[np.generic]


class TooSmallError(Exception):
    """An input does not fit its region; the channel must be opened again with more room."""


class Channel:
    """Views on the shared memory of one opened channel."""

    def __init__(self, opened: Opened, descriptor: int) -> None:
        """Map the memory; the descriptor stays the caller's to close."""
        self.opened = opened
        self.models: dict[int, ModelRef] = {opened.generation: opened.model}
        self._memory = mmap.mmap(descriptor, opened.size_bytes)
        self._dtypes = tuple(np.dtype(region.spec.dtype) for region in opened.inputs)
        self._ranks = tuple(len(region.spec.shape) for region in opened.outputs)
        self._views: list[list[Array | None]] = [[None] * len(opened.inputs) for _ in range(opened.slot_count)]
        self._request = struct.Struct(f"{REQUEST_HEAD.format}{sum(len(r.spec.shape) for r in opened.inputs)}I")
        self.answer_dimensions = struct.Struct(f"<{sum(self._ranks)}I")

    def write(self, inputs: Mapping[str, ArrayLike], sequence: int, deadline_us: int) -> bytes:
        """Copy the inputs into the request's slot; returns the message to send.

        Raises:
            InputError: a name, dtype or shape that the model does not take.
            TooSmallError: an input is larger than its region.
        """
        if len(inputs) != len(self.opened.inputs):
            self._refuse_names(inputs)
        slot = sequence % self.opened.slot_count
        views = self._views[slot]
        dimensions: list[int] = []
        for index, region in enumerate(self.opened.inputs):
            array = self._array(index, region, inputs)
            view = views[index]
            if view is None or view.shape != array.shape:
                view = views[index] = self._view(region, array.shape, slot)
            view[...] = array
            dimensions += array.shape
        return self._request.pack(Kind.REQUEST, slot, self.opened.channel, sequence, deadline_us, *dimensions)

    def read(self, dimensions: tuple[int, ...], sequence: int, *, copy: bool) -> dict[str, Array]:
        """The outputs of the answer to ``sequence``, whose dimensions came with it.

        Raises:
            ProtocolError: an output would lie outside of its region.
        """
        outputs: dict[str, Array] = {}
        at = 0
        for region, rank in zip(self.opened.outputs, self._ranks, strict=True):
            shape = dimensions[at : at + rank]
            at += rank
            view = self._output_view(region, shape, sequence % self.opened.slot_count)
            outputs[region.spec.name] = view.copy() if copy else view
        return outputs

    def _array(self, index: int, region: Region, inputs: Mapping[str, ArrayLike]) -> Array:
        name, dtype = region.spec.name, self._dtypes[index]
        try:
            given = inputs[name]
        except KeyError:
            self._refuse_names(inputs)
            raise
        if not isinstance(given, np.ndarray):
            return _converted(name, given, dtype)
        if given.dtype != dtype and given.dtype.newbyteorder("=") != dtype:
            raise InputError(
                f"{name} has dtype {given.dtype}, the model takes {dtype}",
                "input-dtype",
                f'Convert it: {name}.astype("{dtype}").',
            )
        return given

    def _view(self, region: Region, shape: tuple[int, ...], slot: int) -> Array:
        problem = shape_problem(region.spec, shape)
        if problem:
            raise InputError(problem, "input-shape", "Give the shape that the model takes; -1 is any size.")
        return self._map(region, shape, slot)

    def _output_view(self, region: Region, shape: tuple[int, ...], slot: int) -> Array:
        try:
            return self._map(region, shape, slot)
        except TooSmallError:
            raise ProtocolError(
                f"the runtime answered {region.spec.name} with shape {shape}, beyond its region", "protocol-violation"
            ) from None

    def _map(self, region: Region, shape: tuple[int, ...], slot: int) -> Array:
        dtype = np.dtype(region.spec.dtype)
        count = 1
        for size in shape:
            count *= size
        if count * dtype.itemsize > region.capacity_bytes:
            raise TooSmallError(region.spec.name)
        start = slot * self.opened.slot_bytes + region.offset
        flat: Array = np.frombuffer(self._memory, dtype, count, start)
        return flat.reshape(shape)

    def _refuse_names(self, inputs: Mapping[str, ArrayLike]) -> None:
        wanted = {region.spec.name for region in self.opened.inputs}
        missing, unknown = sorted(wanted - set(inputs)), sorted(set(inputs) - wanted)
        parts = [f"{', '.join(missing)} is missing"] if missing else []
        parts += [f"the model has no {', '.join(unknown)}"] if unknown else []
        raise InputError(
            f"{self.opened.model.name} takes {', '.join(sorted(wanted))}: {'; '.join(parts)}",
            "input-name",
            "Give exactly the model's inputs.",
        )


def room_of(name: str, given: ArrayLike) -> int:
    """How many bytes an input may need; a list's are guessed from its own numbers.

    Raises:
        InputError: it is no array at all.
    """
    return given.nbytes if isinstance(given, np.ndarray) else _converted(name, given, None).nbytes


def _converted(name: str, given: ArrayLike, dtype: np.dtype[np.generic] | None) -> Array:
    """Lists and numbers become the model's dtype; they carry none of their own."""
    try:
        return np.asarray(given, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{name} cannot become an array of {dtype or 'numbers'}: {error}", "input-dtype", "Give a numpy array."
        ) from error
