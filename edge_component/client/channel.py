"""The client's end of one channel: numpy views on the shared memory that the runtime handed out.

It copies a caller's arrays into the next slot and reads answers out of it. The runtime decides where everything lies
(see contracts/fastpath.py); this side only refuses what can be refused early, naming the tensor.

What a request of the same shapes as the last one needs (views, packed dimensions) is kept for each slot, so that it
costs a comparison and a copy. Belongs to one connection and one thread at a time.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_component.client.errors import InputError, ProtocolError
from edge_component.contracts.fastpath import ANSWER_HEAD, REQUEST_HEAD, Kind, Opened, Region, shape_problem
from edge_component.contracts.heartbeat import ModelRef

Array = NDArray[np.generic]
CHANGING = struct.Struct("<II")
"""Of a request's head, what differs from one request of the same shapes to the next: sequence and deadline_us."""
CHANGING_AT = 4


class TooSmallError(Exception):
    """An input does not fit its region; the channel must be opened again with more room."""


@dataclass(slots=True)
class _Written:
    """What was last written into one slot: each input's name, dtype and view; and the message that asks for it."""

    views: tuple[tuple[str, np.dtype[np.generic], Array], ...]
    message: bytearray


@dataclass(slots=True)
class _Read:
    """What was last read from one slot."""

    dimensions: bytes | None = None
    views: tuple[tuple[str, Array], ...] = ()


class Channel:
    """Views on the shared memory of one opened channel."""

    def __init__(self, opened: Opened, descriptor: int) -> None:
        """Map the memory; the descriptor stays the caller's to close."""
        self.opened = opened
        self.models: dict[int, ModelRef] = {opened.generation: opened.model}
        self._number = opened.channel
        self._slot_count = opened.slot_count
        self._input_count = len(opened.inputs)
        self._memory = mmap.mmap(descriptor, opened.size_bytes)
        self._dtypes = tuple(np.dtype(region.spec.dtype) for region in opened.inputs)
        self._ranks = tuple(len(region.spec.shape) for region in opened.outputs)
        self._written: list[_Written | None] = [None] * opened.slot_count
        self._read = [_Read() for _ in range(opened.slot_count)]
        self._answer_dimensions = struct.Struct(f"<{sum(self._ranks)}I")
        self.answer_bytes = ANSWER_HEAD.size + self._answer_dimensions.size

    def write(self, inputs: Mapping[str, ArrayLike], sequence: int, deadline_us: int) -> bytearray:
        """Copy the inputs into the request's slot; returns the message to send, good until the slot's next request.

        An input that *is* the slot's own view (see :meth:`input_views`) is there already.

        Raises:
            InputError: a name, dtype or shape that the model does not take.
            TooSmallError: an input is larger than its region.
        """
        slot = sequence % self._slot_count
        written = self._written[slot]
        if written is None or len(inputs) != self._input_count:
            written = self._write_anew(inputs, slot)
        else:
            for name, dtype, view in written.views:
                given = inputs.get(name)
                if given is view:
                    continue
                if type(given) is np.ndarray and given.dtype == dtype and given.shape == view.shape:
                    view[...] = given
                else:
                    written = self._write_anew(inputs, slot)
                    break
        message = written.message
        CHANGING.pack_into(message, CHANGING_AT, sequence, deadline_us)
        return message

    def input_views(self, sequence: int) -> dict[str, Array]:
        """Where the inputs of the request with that sequence number lie, in the shapes written last; empty before."""
        slot = sequence % self._slot_count
        written = self._written[slot]
        if written is None:
            shaped = next((each for each in self._written if each is not None), None)
            if shaped is None:
                return {}
            written = self._map_inputs(tuple(view for _, _, view in shaped.views), slot)
        return {name: view for name, _, view in written.views}

    def read(self, message: bytes | bytearray, sequence: int, *, copy: bool) -> dict[str, Array]:
        """The outputs of the answer to ``sequence``, whose message this is.

        Raises:
            ProtocolError: an output would lie outside of its region.
        """
        slot = sequence % self._slot_count
        known = self._read[slot]
        dimensions = message[ANSWER_HEAD.size : self.answer_bytes]
        if known.dimensions != dimensions:
            known = self._read[slot] = self._map_outputs(bytes(dimensions), slot)
        if not copy:
            return dict(known.views)
        outputs = {}
        for name, view in known.views:  # a loop: a comprehension would cost a call
            outputs[name] = view.copy()
        return outputs

    def _write_anew(self, inputs: Mapping[str, ArrayLike], slot: int) -> _Written:
        """Other shapes than before, or something that must be converted."""
        if len(inputs) != self._input_count:
            self._refuse_names(inputs)
        arrays = tuple(self._array(index, region, inputs) for index, region in enumerate(self.opened.inputs))
        written = self._map_inputs(arrays, slot)
        for (_, _, view), array in zip(written.views, arrays, strict=True):
            view[...] = array
        return written

    def _map_inputs(self, arrays: tuple[Array, ...], slot: int) -> _Written:
        views: list[tuple[str, np.dtype[np.generic], Array]] = []
        for region, dtype, array in zip(self.opened.inputs, self._dtypes, arrays, strict=True):
            problem = shape_problem(region.spec, array.shape)
            if problem:
                raise InputError(problem, "input-shape", "Give the shape that the model takes; -1 is any size.")
            views.append((region.spec.name, dtype, self._map(region, array.shape, slot)))
        sizes = [size for array in arrays for size in array.shape]
        head = REQUEST_HEAD.pack(Kind.REQUEST, slot, self._number, 0, 0)
        written = _Written(tuple(views), bytearray(head + struct.pack(f"<{len(sizes)}I", *sizes)))
        self._written[slot] = written
        return written

    def _map_outputs(self, dimensions: bytes, slot: int) -> _Read:
        sizes = iter(self._answer_dimensions.unpack(dimensions))
        views: list[tuple[str, Array]] = []
        for region, rank in zip(self.opened.outputs, self._ranks, strict=True):
            shape = tuple(next(sizes) for _ in range(rank))
            try:
                views.append((region.spec.name, self._map(region, shape, slot)))
            except TooSmallError:
                raise ProtocolError(
                    f"the runtime answered {region.spec.name} with shape {shape}, beyond its region",
                    "protocol-violation",
                ) from None
        return _Read(dimensions, tuple(views))

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

    def _map(self, region: Region, shape: tuple[int, ...], slot: int) -> Array:
        dtype = np.dtype(region.spec.dtype)
        count = prod(shape)
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
