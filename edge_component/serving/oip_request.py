"""What a prediction request asks for, in a form that both doors read their messages into, and its shared-memory ends.

Pure but for the regions it is given. REST's reading is oip_json.py's, gRPC's oip_grpc.py's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge_component.inference.errors import InputNameError
from edge_component.inference.session import Array
from edge_component.inference.versions import NO_TURN, Turn
from edge_component.serving.oip_classification import classified
from edge_component.serving.oip_codec import DATATYPES, Buffer, checked_shape, from_binary, known_datatype, to_binary
from edge_component.serving.oip_documents import SHARED_MEMORY_EXTENSION, takes_batches
from edge_component.serving.oip_errors import (
    OipMalformedError,
    OipTooLargeError,
    OipUnsupportedError,
    RegionBoundsError,
)
from edge_component.serving.oip_service import REQUEST_ID_CHARS_MAX, Answered, InputTensor, Question
from edge_component.serving.regions import Region, Regions

TENSORS_MAX = 256
NAME_SHOWN_CHARS = 80
SHARED = "shared memory"
SHARED_TENSORS_MAX = 4
"""Of the size that one may have; smaller ones may be more."""
Parameters = Mapping[str, Any]
NO_PARAMETERS: Parameters = {}
KEY_PARAMETER = "edgewright_key"
"""Requests with the same value meet the same version where the operator has split a name."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of a registered region."""

    region: Region
    offset: int
    byte_size: int

    def beside(self, taken_bytes: int) -> int:
        """What a request takes of shared memory with this input and those before it.

        Nothing of it comes with the request: a short one could name the same large region for each of ``TENSORS_MAX`` inputs.

        Raises:
            OipTooLargeError: more than ``SHARED_TENSORS_MAX`` of the largest.
        """
        taken_bytes += self.byte_size
        most_bytes = SHARED_TENSORS_MAX * self.region.tensor_bytes_max
        if taken_bytes > most_bytes:
            raise OipTooLargeError(
                f"inputs of more than {most_bytes} bytes in shared memory together",
                "Ask with fewer rows, or raise oip_body_bytes_max in the component's configuration.",
            )
        return taken_bytes


class WantedOutput(NamedTuple):
    """An output that the client named, how it wants it, and where to; ``classes`` above 0: so many of its highest values."""

    name: str
    binary: bool
    slice: Slice | None = None
    classes: int = 0


class SentOutput(NamedTuple):
    """An output on its way out; ``written_bytes`` of it are in shared memory already, if it is wanted there."""

    name: str
    datatype: str
    array: Array
    wanted: WantedOutput
    written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """The regions as one client sees them; ``regions`` is ``None`` where the extension is switched off."""

    regions: Regions | None
    peer_id: int | None = None

    def registered(self) -> Regions:
        """The regions.

        Raises:
            OipUnsupportedError: the extension is off.
        """
        if self.regions is None:
            raise OipUnsupportedError(
                f"the extension {SHARED_MEMORY_EXTENSION} is switched off on this device, or at this door",
                "Set oip_shared_memory: true in the runtime component's configuration, or send the tensors themselves; "
                "a door beyond loopback never has it.",
            )
        return self.regions

    def slice(self, parameters: Parameters, where: str) -> Slice | None:
        """The piece of shared memory that a tensor's parameters name, if they name one.

        Raises:
            OipMalformedError, OipUnsupportedError, RegionUnknownError: it cannot be had.
        """
        name = parameters.get("shared_memory_region")
        if name is None:
            return None
        offset = parameters.get("shared_memory_offset", 0)
        byte_size = parameters.get("shared_memory_byte_size")
        if not isinstance(name, str) or type(offset) is not int or type(byte_size) is not int:
            raise OipMalformedError(
                f"{where}: shared_memory_region, _offset and _byte_size must be text and two numbers"
            )
        return Slice(self.registered().find(name, self.peer_id), offset, byte_size)


def shared_input(name: str, datatype: str, shape: tuple[int, ...], place: Slice) -> InputTensor:
    """An input that lies in shared memory, copied out of it."""
    data = place.region.read(place.offset, place.byte_size)
    return InputTensor(datatype, from_binary(name, datatype, shape, data))


def tensor_head(name: object, datatype: object, shape: object) -> tuple[str, str, tuple[int, ...]]:
    """An input's name, datatype and shape, checked.

    Raises:
        OipMalformedError, OipTensorError: naming the tensor.
    """
    if not isinstance(name, str) or not name:
        raise OipMalformedError("an input has no name")
    if not isinstance(datatype, str) or not isinstance(shape, list):
        raise OipMalformedError(f"{name} needs a datatype and a shape")
    return name, known_datatype(name, datatype), checked_shape(name, shape)


def check_alone(name: str, places: Sequence[str]) -> None:
    """An input's tensor is in one place.

    Raises:
        OipMalformedError: it is in several, and they may differ.
    """
    if len(places) > 1:
        raise OipMalformedError(f"{name} is sent in {' and in '.join(places)}", "Send each tensor in one way.")


def check_once(kind: str, names: Sequence[object]) -> None:
    """Each tensor's name is there once.

    Raises:
        OipMalformedError: naming the one that is not.
    """
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            continue  # refused where it is read
        if name in seen:
            raise OipMalformedError(f"{kind} name {name[:NAME_SHOWN_CHARS]!r} twice", "Name each tensor once.")
        seen.add(name)


def question_of(
    path: tuple[str, str],
    inputs: Mapping[str, InputTensor],
    parameters: Parameters,
    time_left_s: float | None,
    began_ns: int,
    request_id: str,
) -> Question:
    """The question, with what the request's parameters say about how to answer it; unknown ones change nothing.

    Of ``request_id`` no more is kept than a log needs: telemetry holds it in memory for a while.

    Raises:
        OipMalformedError: a parameter is of another type.
    """
    request_id = request_id[:REQUEST_ID_CHARS_MAX]
    if not parameters:
        return Question(*path, inputs, time_left_s or 0.0, began_ns, request_id=request_id)
    timeout_us = parameters.get("timeout", 0)
    if type(timeout_us) is not int or timeout_us < 0:
        raise OipMalformedError(f"the parameter timeout must be a number of microseconds, not {timeout_us!r:.40}")
    limits_s = [limit_s for limit_s in (time_left_s, timeout_us / 1_000_000) if limit_s]
    key = parameters.get(KEY_PARAMETER, "")
    if not isinstance(key, str):
        raise OipMalformedError(f"the parameter {KEY_PARAMETER} must be text")
    return Question(*path, inputs, min(limits_s, default=0.0), began_ns, key, turn_of(parameters), request_id)


def turn_of(parameters: Parameters) -> Turn:
    """Triton's sequence parameters: an id that is a number or text, 0 and empty for none, and whether it begins or ends.

    Raises:
        OipMalformedError: a parameter is of another type.
    """
    sequence = parameters.get("sequence_id", 0)
    if not sequence:
        return NO_TURN
    starts, ends = parameters.get("sequence_start", False), parameters.get("sequence_end", False)
    if type(sequence) not in (int, str) or type(starts) is not bool or type(ends) is not bool:
        raise OipMalformedError("sequence_id must be a number or text, sequence_start and sequence_end true or false")
    return Turn(str(sequence), starts, ends)


def classes_of(parameters: Parameters, where: str) -> int:
    """How many classes an output is wanted as; 0 for the output itself.

    Raises:
        OipMalformedError: not a number of them.
    """
    count = parameters.get("classification", 0)
    if type(count) is not int or count < 0:
        raise OipMalformedError(f"{where}: classification must be a number of classes, not {count!r:.40}")
    return count


def chosen_outputs(answered: Answered, wanted: tuple[WantedOutput, ...], *, binary: bool) -> list[SentOutput]:
    """The outputs that the client named, or all; those for shared memory are there when this returns.

    Raises:
        InputNameError: the model has no such output.
        OipUnsupportedError: it is wanted in classes, and holds no numbers.
        RegionBoundsError: an output does not fit its place.
    """
    datatypes = {spec.name: DATATYPES[spec.dtype] for spec in answered.active.outputs}
    sent: list[SentOutput] = []
    for output in wanted or tuple(WantedOutput(name, binary) for name in datatypes):
        if output.name not in datatypes:
            raise InputNameError(
                f"the model has the outputs {sorted(datatypes)}, not {output.name!r}", "Ask for outputs that it has."
            )
        array, datatype = answered.outputs[output.name], datatypes[output.name]
        if output.classes:
            batched = takes_batches(answered.active)
            array = classified(output.name, datatype, array, output.classes, batched=batched)
            datatype = "BYTES"
        written_bytes = _write(output.slice, to_binary(datatype, array)) if output.slice is not None else 0
        sent.append(SentOutput(output.name, datatype, array, output, written_bytes))
    return sent


def _write(place: Slice, data: Buffer) -> int:
    if len(data) > place.byte_size:
        raise RegionBoundsError(f"an output of {len(data)} bytes does not fit the {place.byte_size} it was given")
    place.region.write(place.offset, place.byte_size, data)
    return len(data)
