"""A prediction over gRPC: the request read into a question. What is written back is oip_grpc_answer.py's.

Tensors travel raw (``raw_input_contents``, one entry for each input that is not in shared memory) or typed
(``contents``), as the client chooses for all of its inputs; it is answered in the form it used, but FP16 and BF16 have no
typed form and are always raw.

Clients send the same message again and again with other tensors at its end. :class:`Recurring` knows it by its bytes: what
comes before the raw contents is what it was, and so are their places; then no message is parsed at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from edge_component.inference.session import Array
from edge_component.rpc.messages import Buffer
from edge_component.serving.grpc_service import Message
from edge_component.serving.oip_codec import from_binary, from_values
from edge_component.serving.oip_errors import OipMalformedError, OipTensorError, OipUnsupportedError
from edge_component.serving.oip_request import (
    NO_PARAMETERS,
    SHARED,
    TENSORS_MAX,
    Parameters,
    SharedMemory,
    WantedOutput,
    check_alone,
    check_once,
    classes_of,
    question_of,
    shared_input,
    tensor_head,
)
from edge_component.serving.oip_service import REQUEST_ID_CHARS_MAX, InputTensor, Question
from edge_component.serving.oip_wire import tail_of

CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""The typed form's field for each datatype that has one."""

HEAD_KEPT_BYTES = 4_096
"""Of a message that is kept, in case the next one begins alike."""


class InputHead(NamedTuple):
    """What a message says of one input, and its tensor if that came typed."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Parameters
    typed: Array | None


class InferenceHead:
    """A ``ModelInferRequest`` but for its raw contents.

    Attributes:
        id: to be given back; empty if the client gave none.
        parameters: of the request.
        is_typed: the inputs came typed.
        is_whole: it holds no tensor itself; the same may come again with other ones.
    """

    __slots__ = ("_asked", "_inputs", "_outputs", "id", "is_typed", "is_whole", "parameters")

    def __init__(self, request: Message) -> None:
        """Read it.

        Raises:
            OipError: naming what is wrong.
        """
        if len(request.inputs) > TENSORS_MAX or len(request.outputs) > TENSORS_MAX:
            raise OipMalformedError(f"at most {TENSORS_MAX} inputs and outputs are allowed")
        self.id: str = request.id
        self.parameters = parameters_of(request)
        path = request.model_name, request.model_version
        self._asked = question_of(path, {}, self.parameters, None, 0, "")
        raw_count = len(request.raw_input_contents)
        inputs: list[InputHead] = []
        for message in request.inputs:
            given = _input_head(message, may_be_raw=raw_count > 0)
            if given.typed is None and "shared_memory_region" not in given.parameters:
                raw_count -= 1
            inputs.append(given)
        self._inputs = tuple(inputs)
        check_once("inputs", [given.name for given in inputs])
        check_once("outputs", [message.name for message in request.outputs])
        self._outputs = tuple(_output(message) for message in request.outputs)
        self.is_typed = any(given.typed is not None for given in inputs)
        self.is_whole = not self.is_typed

    def question(
        self, raw: Sequence[Buffer], shared: SharedMemory, time_left_s: float | None, began_ns: int, header_id: str = ""
    ) -> Question:
        """Whom to ask what, with these raw contents; ``header_id`` names it in logs where the message does not.

        Raises:
            OipError: naming what is wrong.
        """
        inputs: dict[str, InputTensor] = {}
        at = shared_bytes = 0
        for name, datatype, shape, parameters, typed in self._inputs:
            place = shared.slice(parameters, name) if parameters else None
            if place is not None:
                shared_bytes = place.beside(shared_bytes)
                inputs[name] = shared_input(name, datatype, shape, place)
            elif typed is not None:
                inputs[name] = InputTensor(datatype, typed)
            else:
                inputs[name] = InputTensor(datatype, from_binary(name, datatype, shape, raw[at]))
                at += 1
        if at != len(raw):
            raise OipTensorError(f"{len(raw) - at} raw_input_contents belong to no input")
        asked = self._asked
        deadline_s = asked.deadline_s
        if time_left_s is not None and (not deadline_s or time_left_s < deadline_s):
            deadline_s = time_left_s
        request_id = (self.id or header_id)[:REQUEST_ID_CHARS_MAX]
        return Question(
            asked.model_name, asked.model_version, inputs, deadline_s, began_ns, asked.key, asked.turn, request_id
        )

    def wanted(self, shared: SharedMemory) -> tuple[WantedOutput, ...]:
        """The outputs that the client named.

        Raises:
            OipError: a place that cannot be had.
        """
        return tuple(
            output._replace(slice=shared.slice(parameters, output.name)) if parameters else output
            for output, parameters in self._outputs
        )


class Recurring:
    """One connection's last request, by its bytes. From any thread: what is known is replaced as a whole.

    Attributes:
        raw_at: where the raw contents of the one that is known begin.
    """

    __slots__ = ("_known", "_seen", "raw_at")

    def __init__(self) -> None:
        """None yet."""
        self.raw_at = 0
        self._seen = b""
        self._known: tuple[int, bytes, tuple[tuple[int, bytes, int], ...], InferenceHead] | None = None

    def find(self, data: Buffer) -> tuple[InferenceHead, list[Buffer]] | None:
        """The head that such a message has, and its raw contents; ``None`` if it is another one."""
        known = self._known
        if known is None or len(data) != known[0]:
            return None
        _, before, marks, head = known
        if data[: len(before)] != before:
            return None
        raw: list[Buffer] = []
        for at, mark, end in marks:
            begin = at + len(mark)
            if data[at:begin] != mark:
                return None
            raw.append(data[begin:end])
        return head, raw

    def keep(self, data: Buffer, request: Message, head: InferenceHead) -> None:
        """Know it from now on, if it came twice alike and is such a message."""
        marks = tail_of(data, [len(content) for content in request.raw_input_contents])
        if not head.is_whole or marks is None:
            return
        end = marks[0][0] if marks else len(data)
        before = bytes(data[:end]) if end <= HEAD_KEPT_BYTES else b""
        if not before:
            return
        if before != self._seen:
            self._seen = before
        elif _says_all_but_raw(request, before):
            self._known = len(data), before, marks, head
            self.raw_at = marks[0][0] + len(marks[0][1]) if marks else 0


def _says_all_but_raw(request: Message, before: bytes) -> bool:
    """Whether the message's first bytes are a message by themselves, which lacks the raw contents and nothing else."""
    try:
        alone = type(request).FromString(before)
    except DecodeError:  # what looked like raw contents was the end of something else
        return False
    whole = type(request)()
    whole.CopyFrom(request)
    whole.ClearField("raw_input_contents")
    return bool(alone == whole)


def parameters_of(message: Message) -> Parameters:
    """A message's parameters as plain values."""
    if not message.parameters:
        return NO_PARAMETERS
    found: dict[str, Any] = {}
    for key, parameter in message.parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[key] = getattr(parameter, choice)
    return found


def _input_head(message: Message, *, may_be_raw: bool) -> InputHead:
    name, datatype, shape = tensor_head(message.name, message.datatype, list(message.shape))
    parameters = parameters_of(message) if message.parameters else NO_PARAMETERS
    is_shared = "shared_memory_region" in parameters
    if may_be_raw or is_shared:
        if message.contents.ByteSize():
            check_alone(name, ("contents", SHARED if is_shared else "raw_input_contents"))
        return InputHead(name, datatype, shape, parameters, None)
    return InputHead(name, datatype, shape, parameters, _from_contents(name, datatype, shape, message.contents))


def _output(message: Message) -> tuple[WantedOutput, Parameters]:
    parameters = parameters_of(message)
    return WantedOutput(message.name, True, None, classes_of(parameters, message.name)), parameters


def _from_contents(name: str, datatype: str, shape: tuple[int, ...], contents: Message) -> Array:
    field = CONTENTS.get(datatype)
    if field is None:
        raise OipUnsupportedError(f"{name}: {datatype} has no typed contents", "Send it in raw_input_contents.")
    sent: list[Any] = list(getattr(contents, field))
    values = [_text(name, element) for element in sent] if datatype == "BYTES" else sent
    return from_values(name, datatype, shape, values)


def _text(name: str, element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise OipTensorError(
            f"{name}: an element is not UTF-8: {error.reason}", "Send it as a UINT8 tensor."
        ) from error
