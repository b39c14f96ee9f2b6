"""A prediction over gRPC: the messages read into a question, and the answer written back.

Tensors travel raw (``raw_input_contents``, one entry for each input that is not in shared memory) or typed
(``contents``), as the client chooses for all of its inputs; it is answered in the form it used, but FP16 and BF16 have no
typed form and are always raw.
"""

from collections.abc import Mapping
from typing import Any

from edge_component.inference.session import Array
from edge_component.serving.oip_codec import from_binary, from_values, to_binary, to_values
from edge_component.serving.oip_errors import OipMalformedError, OipTensorError, OipUnsupportedError
from edge_component.serving.oip_request import (
    NO_PARAMETERS,
    TENSORS_MAX,
    Parameters,
    SentOutput,
    SharedMemory,
    WantedOutput,
    classes_of,
    question_of,
    shared_input,
    tensor_head,
)
from edge_component.serving.oip_service import Answered, InputTensor, Question

CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""The typed form's field for each datatype that has one."""

Message = Any
"""A protobuf message: its class is made at run time (proto_text.py)."""


class InferenceCall:
    """One ``ModelInferRequest``, read.

    Attributes:
        question: whom to ask what.
        wanted: the outputs that the client named.
        is_typed: the inputs came typed.
    """

    __slots__ = ("_shared", "is_typed", "question", "wanted")

    def __init__(
        self, request: Message, shared: SharedMemory, time_left_s: float | None, began_ns: int, request_id: str = ""
    ) -> None:
        """Read it; ``time_left_s`` is gRPC's own deadline, ``request_id`` what logs call it.

        Raises:
            OipError: naming what is wrong.
        """
        self._shared = shared
        self.is_typed = False
        if len(request.inputs) > TENSORS_MAX or len(request.outputs) > TENSORS_MAX:
            raise OipMalformedError(f"at most {TENSORS_MAX} inputs and outputs are allowed")
        inputs = self._inputs(request)
        self.wanted = tuple(self._output(output) for output in request.outputs)
        path = request.model_name, request.model_version
        self.question: Question = question_of(path, inputs, parameters_of(request), time_left_s, began_ns, request_id)

    def _inputs(self, request: Message) -> dict[str, InputTensor]:
        raw = list(request.raw_input_contents)
        raw.reverse()
        inputs: dict[str, InputTensor] = {}
        for message in request.inputs:
            name, datatype, shape = tensor_head(message.name, message.datatype, list(message.shape))
            if name in inputs:
                raise OipMalformedError(f"inputs name {name} twice")
            place = self._shared.slice(parameters_of(message), name) if message.parameters else None
            if place is not None:
                inputs[name] = shared_input(name, datatype, shape, place)
            elif raw:
                inputs[name] = InputTensor(datatype, from_binary(name, datatype, shape, raw.pop()))
            else:
                self.is_typed = True
                inputs[name] = InputTensor(datatype, _from_contents(name, datatype, shape, message.contents))
        if raw:
            raise OipTensorError(f"{len(raw)} raw_input_contents belong to no input")
        return inputs

    def _output(self, message: Message) -> WantedOutput:
        parameters = parameters_of(message)
        place, classes = self._shared.slice(parameters, message.name), classes_of(parameters, message.name)
        return WantedOutput(message.name, True, place, classes)


def answer_fields(answered: Answered, sent: list[SentOutput], request_id: str, *, is_typed: bool) -> dict[str, Any]:
    """The fields of a ``ModelInferResponse``."""
    typed = is_typed and all(output.datatype in CONTENTS for output in sent)
    outputs = [_written(output, typed=typed) for output in sent]
    fields: dict[str, Any] = {
        "model_name": answered.active.ref.name,
        "model_version": answered.active.ref.version,
        "id": request_id,
        "outputs": outputs,
    }
    if not typed:  # one entry for each output: clients find theirs by its place
        fields["raw_output_contents"] = [_raw(output) for output in sent]
    return fields


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


def _written(output: SentOutput, *, typed: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": output.array.shape}
    place = output.wanted.slice
    if place is not None:
        fields["parameters"] = {
            "shared_memory_region": {"string_param": place.region.name},
            "shared_memory_offset": {"int64_param": place.offset},
            "shared_memory_byte_size": {"int64_param": output.written_bytes},
        }
    elif typed:
        fields["contents"] = {CONTENTS[output.datatype]: _contents(output)}
    return fields


def _contents(output: SentOutput) -> list[object]:
    if output.datatype == "BYTES":
        texts: list[object] = output.array.reshape(-1).tolist()
        return [str(text).encode() for text in texts]
    if output.array.dtype.kind == "f":
        return list(output.array.reshape(-1).tolist())  # protobuf carries NaN and infinities
    return to_values(output.name, output.datatype, output.array)


def _raw(output: SentOutput) -> bytes:
    return b"" if output.wanted.slice is not None else bytes(to_binary(output.datatype, output.array))
