"""The client's end of one channel: numpy views on the shared memory that the runtime handed out.

It copies a caller's arrays into the next slot and reads answers out of it. The runtime decides where everything lies
(see contracts/fastpath.py); this side only refuses what can be refused early, naming the tensor.

What a request of the same shapes as the last one needs is kept for each slot (:class:`_Lane`), so that it costs a
comparison and a copy. What a model leaves of a core's caches makes every further call of a C function cost
microseconds instead of a tenth of one (measured after a run of 60 us), so :meth:`Channel.request` and
:meth:`Channel.answer` are written for few of them rather than for few lines: a slice assignment to the memory map
instead of numpy's, one ``unpack`` whose first number answers three questions, one byte that counts requests.

Belongs to one connection and one thread at a time.
"""

import fcntl
import mmap
import struct
from collections.abc import Mapping
from math import nan, prod
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from edge_component.client.answers import Answer, Array, failure_in
from edge_component.client.errors import InputError, ProtocolError
from edge_component.contracts.codec import from_bytes
from edge_component.contracts.errors import ContractError
from edge_component.contracts.fastpath import (
    ANSWER_HEAD,
    MESSAGE_BYTES_MAX,
    MODEL_NAMED,
    REQUEST_HEAD,
    Kind,
    Opened,
    Region,
    shape_problem,
)
from edge_component.contracts.heartbeat import ModelRef

SEQUENCE_AT = 4
"""Of a request's head; of the number only the lowest byte is counted up, which is enough to tell neighbours apart."""
DEADLINE_AT = 8
DEADLINE = struct.Struct("<I")
DEADLINE_US_MAX = 0xFFFFFFFF
SIZE_MAX = 0xFFFFFFFF
"""Of one dimension: it has four bytes in a request."""
SLOTS_MAX = 256
"""A request has one byte for its slot."""
STRANGE_DTYPES = ("string", "bfloat16")
"""A manifest may name them; numpy has them not, and the fast path carries none."""
ITEM_BYTES_MAX = 8
"""Of every dtype that the fast path carries."""
SHARED_COPY_BYTES_MAX = 1_048_576
"""Larger inputs are copied by numpy, which lets other threads run meanwhile."""

ndarray = np.ndarray
_new_tuple = tuple.__new__  # what ``Answer(...)`` comes down to, without a function around it
_View = tuple[str, np.dtype[np.generic], tuple[int, ...], Array, slice | None]
"""An input's name, dtype, shape and view; and where it lies in the memory, if it may be written as mere bytes."""


class TooSmallError(Exception):
    """An input does not fit its region; the channel must be opened again with more room."""


class _Lane:
    """One slot: what was last written into it and read from it, and the slot whose turn is next.

    Attributes:
        views: of the inputs, in the shapes written last; empty before the first request.
        message: that asks for the answer.
        left_s: the deadline that the message carries.
        dimensions: of the outputs, as they were last answered.
        outputs: views on them, by name.
    """

    __slots__ = ("dimensions", "following", "left_s", "message", "outputs", "slot", "views")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.following = self
        self.views: tuple[_View, ...] = ()
        self.message = bytearray()
        self.left_s = nan
        self.dimensions: bytes | None = None
        self.outputs: tuple[tuple[str, Array], ...] = ()


class Channel:
    """Views on the shared memory of one opened channel."""

    def __init__(self, opened: Opened, descriptor: int) -> None:
        """Map the memory; the descriptor stays the caller's to close.

        Raises:
            ValueError: the memory, or where things are said to lie in it, cannot be used.
        """
        self.opened = opened
        self._models: dict[int, ModelRef] = {opened.generation: opened.model}
        self._input_count = len(opened.inputs)
        self._memory = _mapped(descriptor, opened)
        self._dtypes = tuple(np.dtype(region.spec.dtype) for region in opened.inputs)
        self._ranks = tuple(len(region.spec.shape) for region in opened.outputs)
        self._sequence = 0
        self._head = int(Kind.ANSWER) | opened.channel << 16
        """Of an ordinary answer, its first eight bytes as one number, but for the sequence."""
        self._answer_dimensions = struct.Struct(f"<{sum(self._ranks)}I")
        self._answer_bytes = ANSWER_HEAD.size + self._answer_dimensions.size
        self._unpack = struct.Struct(f"<QII{self._answer_dimensions.size}s").unpack_from
        self._lane = _lanes(opened.slot_count)

    def request(self, inputs: Mapping[str, ArrayLike], left_s: float) -> bytearray:
        """Copy the inputs into the next slot; returns the message to send, good until the slot's next request.

        An input that *is* the slot's own view (see :meth:`next_views`) is there already.

        Raises:
            InputError: a name, dtype or shape that the model does not take.
            TooSmallError: an input is larger than its region.
        """
        lane = self._lane = self._lane.following
        if len(inputs) != self._input_count or not lane.views:
            self._write_anew(lane, inputs)
        else:
            memory = self._memory
            for name, dtype, shape, view, place in lane.views:
                given = inputs.get(name)
                if given is view:
                    continue
                if (
                    type(given) is not ndarray
                    or given.shape != shape
                    or (given.dtype is not dtype and given.dtype != dtype)
                ):
                    self._write_anew(lane, inputs)
                    break
                if place is None:
                    view[...] = given
                    continue
                try:
                    memory[place] = given  # type: ignore[call-overload] # numpy names itself a Buffer from 3.12 on
                except ValueError:  # not contiguous, so no mere bytes
                    view[...] = given
        message = lane.message
        message[SEQUENCE_AT] = self._sequence = (self._sequence + 1) & 0xFF
        if left_s != lane.left_s:
            lane.left_s = left_s
            DEADLINE.pack_into(message, DEADLINE_AT, min(max(int(left_s * 1_000_000), 1), DEADLINE_US_MAX))
        return message

    def answer(self, message: bytes | bytearray, size: int, copy: bool) -> Answer:  # noqa: FBT001 - its name would cost
        """Read the answer to the last request out of the first ``size`` bytes and the shared memory.

        Raises:
            ConnectionResetError: there is none; the runtime hung up.
            AskAgainError: the channel must be opened again.
            ClientError: the answer is an error.
        """
        if size != self._answer_bytes:
            message = self._learn_name(bytes(message[:size]))
        head, generation, run_us, dimensions = self._unpack(message)
        if head != self._head | self._sequence << 32:
            raise self._unexpected(bytes(message[:size]))
        lane = self._lane
        if dimensions != lane.dimensions:
            self._map_outputs(lane, dimensions)
        outputs = {}
        for name, view in lane.outputs:  # a loop: a comprehension would cost a call
            outputs[name] = view.copy() if copy else view
        try:
            return _new_tuple(Answer, (outputs, self._models[generation], run_us))
        except KeyError:
            raise ProtocolError(f"generation {generation} answered and was never named", "protocol-violation") from None

    def fill_next(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Copy the inputs to where the next request's belong; returns the views on them.

        Raises:
            InputError, TooSmallError: as :meth:`request`.
        """
        self._write_anew(self._lane.following, inputs)
        return self.next_views()

    def next_views(self) -> dict[str, Array]:
        """Where the next request's inputs will lie, in the shapes written last; empty before the first."""
        lane = self._lane.following
        if not lane.views and self._lane.views:
            self._map_inputs(lane, tuple(view for _, _, _, view, _ in self._lane.views))
        return {name: view for name, _, _, view, _ in lane.views}

    def _learn_name(self, message: bytes) -> bytes:
        """An answer with its model's name behind it: keep that, and return the ordinary answer; or raise the error."""
        if len(message) < self._answer_bytes or message[0] != Kind.ANSWER or message[1] != MODEL_NAMED:
            raise self._unexpected(message)
        _, _, _, _, generation, _ = ANSWER_HEAD.unpack_from(message)
        try:
            named = from_bytes(message[self._answer_bytes :], MESSAGE_BYTES_MAX)
            self._models[generation] = ModelRef.read(named, "model")
        except ContractError as error:
            raise ProtocolError(
                f"the runtime named a model in no way we know: {error}", "protocol-violation"
            ) from error
        return message[:1] + b"\0" + message[2 : self._answer_bytes]

    def _unexpected(self, message: bytes) -> Exception:
        """What a message is that is not the answer to the last request."""
        if len(message) < ANSWER_HEAD.size or message[0] != Kind.ANSWER:
            return failure_in(message)
        _, flags, channel, sequence, _, _ = ANSWER_HEAD.unpack_from(message)
        return ProtocolError(
            f"the runtime answered request {sequence} of channel {channel} in {len(message)} bytes with flags {flags}, "
            f"not request {self._sequence} of {self.opened.channel} in {self._answer_bytes}",
            "protocol-violation",
        )

    def _write_anew(self, lane: _Lane, inputs: Mapping[str, ArrayLike]) -> None:
        """Other shapes than before, or something that must be converted."""
        if len(inputs) != self._input_count:
            self._refuse_names(inputs)
        arrays = tuple(self._array(index, region, inputs) for index, region in enumerate(self.opened.inputs))
        self._map_inputs(lane, arrays)
        for (_, _, _, view, _), array in zip(lane.views, arrays, strict=True):
            view[...] = array

    def _map_inputs(self, lane: _Lane, arrays: tuple[Array, ...]) -> None:
        views: list[_View] = []
        for region, dtype, array in zip(self.opened.inputs, self._dtypes, arrays, strict=True):
            problem = shape_problem(region.spec, array.shape)
            if max(array.shape, default=0) > SIZE_MAX:  # where another dimension is 0, numpy has such arrays
                problem = f"{region.spec.name} has shape {array.shape}, beyond what a request can say"
            if problem:
                raise InputError(problem, "input-shape", "Give the shape that the model takes; -1 is any size.")
            view = self._map(region, array.shape, lane.slot)
            begin = self._offset(region, lane.slot)
            place = slice(begin, begin + view.nbytes) if view.nbytes <= SHARED_COPY_BYTES_MAX else None
            views.append((region.spec.name, dtype, array.shape, view, place))
        sizes = [size for array in arrays for size in array.shape]
        head = REQUEST_HEAD.pack(Kind.REQUEST, lane.slot, self.opened.channel, 0, 0)
        lane.message = bytearray(head + struct.pack(f"<{len(sizes)}I", *sizes))
        lane.views, lane.left_s = tuple(views), nan

    def _map_outputs(self, lane: _Lane, dimensions: bytes) -> None:
        sizes = iter(self._answer_dimensions.unpack(dimensions))
        views: list[tuple[str, Array]] = []
        for region, rank in zip(self.opened.outputs, self._ranks, strict=True):
            shape = tuple(next(sizes) for _ in range(rank))
            try:
                views.append((region.spec.name, self._map(region, shape, lane.slot)))
            except (TooSmallError, ValueError):  # ValueError: of more elements, or dimensions, than numpy can say
                raise ProtocolError(
                    f"the runtime answered {region.spec.name} with shape {shape}, beyond its region",
                    "protocol-violation",
                ) from None
        lane.outputs, lane.dimensions = tuple(views), dimensions

    def _array(self, index: int, region: Region, inputs: Mapping[str, ArrayLike]) -> Array:
        name, dtype = region.spec.name, self._dtypes[index]
        try:
            given = inputs[name]
        except KeyError:
            self._refuse_names(inputs)
        if not isinstance(given, np.ndarray):
            return converted(name, given, dtype)
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
        flat: Array = np.frombuffer(self._memory, dtype, count, self._offset(region, slot))
        return flat.reshape(shape)

    def _offset(self, region: Region, slot: int) -> int:
        return slot * self.opened.slot_bytes + region.offset

    def _refuse_names(self, inputs: Mapping[str, ArrayLike]) -> NoReturn:
        wanted = {region.spec.name for region in self.opened.inputs}
        missing, unknown = sorted(wanted - set(inputs)), sorted(set(inputs) - wanted)
        parts = [f"{', '.join(missing)} is missing"] if missing else []
        parts += [f"the model has no {', '.join(unknown)}"] if unknown else []
        raise InputError(
            f"{self.opened.model.name} takes {', '.join(sorted(wanted)) or 'nothing'}: {'; '.join(parts)}",
            "input-name",
            "Give exactly the model's inputs.",
        )


def _mapped(descriptor: int, opened: Opened) -> mmap.mmap:
    """The memory, once it is known that nobody can take it away: touching what is gone would end this process (SIGBUS).

    Raises:
        ValueError: it could shrink, is too small, or does not hold what is said to lie there.
    """
    for region in (*opened.inputs, *opened.outputs):
        if region.offset + region.capacity_bytes > opened.slot_bytes:
            raise ValueError(f"{region.spec.name} lies beyond its slot")
        if region.spec.dtype in STRANGE_DTYPES:
            raise ValueError(f"{region.spec.name} is of type {region.spec.dtype}")
    if opened.slot_count > SLOTS_MAX or not opened.size_bytes:
        raise ValueError(f"{opened.slot_count} slots of {opened.slot_bytes} bytes")
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:  # no memory at all
        raise ValueError(str(error)) from error
    if not seals & fcntl.F_SEAL_SHRINK:
        raise ValueError("its memory is not sealed against shrinking")
    try:
        return mmap.mmap(descriptor, opened.size_bytes)
    except (OverflowError, PermissionError) as error:
        raise ValueError(str(error)) from error


def _lanes(count: int) -> _Lane:
    """As many lanes in a ring; returns the last, so that the first one's turn is next."""
    lanes = [_Lane(slot) for slot in range(count)]
    for lane, following in zip(lanes, lanes[1:] + lanes[:1], strict=True):
        lane.following = following
    return lanes[-1]


def room_of(name: str, given: ArrayLike) -> int:
    """How many bytes an input may need; a list's as if its elements were of the largest type.

    Raises:
        InputError: it is no array at all.
    """
    return given.nbytes if isinstance(given, np.ndarray) else converted(name, given, None).size * ITEM_BYTES_MAX


def converted(name: str, given: ArrayLike, dtype: np.dtype[np.generic] | None) -> Array:
    """Lists and numbers become the model's dtype, if they can; they carry none of their own.

    Raises:
        InputError: they cannot.
    """
    try:
        array = np.asarray(given, dtype)
        if dtype is not None and dtype.kind in "iub" and np.any(array != np.asarray(given)):
            raise ValueError("it holds numbers that are not whole, or beyond it")  # noqa: TRY301 - told as numpy's own are
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{name} cannot become an array of {dtype or 'numbers'}: {error}", "input-dtype", "Give a numpy array."
        ) from error
    return array
