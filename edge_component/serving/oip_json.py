"""A prediction over REST: the JSON document, the binary tensor extension behind it, and the answer. Pure.

The body is ``<JSON><tensor><tensor>…``; the header ``Inference-Header-Content-Length`` says where the JSON ends, and each
binary input's ``binary_data_size`` how much of the rest is its own, in the order of the inputs. Without that header all of
the body is JSON.
"""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from edge_component.serving.oip_codec import Buffer, from_binary, from_values, to_binary, to_values
from edge_component.serving.oip_errors import OipMalformedError, OipTensorError
from edge_component.serving.oip_request import (
    NO_PARAMETERS,
    SHARED,
    TENSORS_MAX,
    Parameters,
    SentOutput,
    SharedMemory,
    WantedOutput,
    check_alone,
    check_once,
    classes_of,
    question_of,
    shared_input,
    tensor_head,
)
from edge_component.serving.oip_service import REQUEST_ID_CHARS_MAX, Answered, InputTensor, Question

Document = dict[str, Any]


ANSWERS_KEPT_MAX = 64
"""Of binary answers' JSON, for as many models and shapes that are asked in turn."""

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one for each answer


class InputHead(NamedTuple):
    """What the JSON says of one input: its ``data``, or how many bytes of the rest are its own, or a place in a region."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Parameters
    binary_bytes: int | None
    data: object


class InferenceHead:
    """The JSON of a request, read. Clients repeat it from request to request, and then it is read once (oip_rest.py).

    Attributes:
        id: to be given back; empty if the client gave none.
        binary: whether outputs that it did not name are to be binary.
        is_whole: the JSON itself holds no tensor; the same text may come again with other tensors.
    """

    __slots__ = ("_asked", "_inputs", "_outputs", "binary", "id", "is_whole")

    def __init__(self, text: Buffer) -> None:
        """Read it.

        Raises:
            OipError: naming what is wrong.
        """
        document = read_object(text)
        parameters = _parameters(document, "the request")
        self.id = document.get("id", "")
        if not isinstance(self.id, str):
            raise OipMalformedError("id must be text")
        self.binary = parameters.get("binary_data_output") is True
        self._asked = question_of(("", ""), {}, parameters, None, 0, "")
        self._inputs = tuple(_input_head(entry) for entry in _entries(document, "inputs"))
        self._outputs = tuple(self._output(entry) for entry in _entries(document, "outputs"))
        self.is_whole = all(given.data is None for given in self._inputs)

    def question(
        self, path: tuple[str, str], binary: memoryview, shared: SharedMemory, began_ns: int, header_id: str = ""
    ) -> Question:
        """Whom to ask what: ``path`` is model name and version, ``binary`` what follows the JSON.

        ``header_id`` names the request in logs where the JSON does not; it is not given back.

        Raises:
            OipError: naming what is wrong.
        """
        inputs: dict[str, InputTensor] = {}
        at = shared_bytes = 0
        for name, datatype, shape, parameters, size, data in self._inputs:
            place = shared.slice(parameters, name) if parameters else None
            if place is not None:
                shared_bytes = place.beside(shared_bytes)
                inputs[name] = shared_input(name, datatype, shape, place)
            elif size is not None:
                taken = binary[at : at + size]
                if len(taken) < size:
                    raise OipTensorError(
                        f"{name}: binary_data_size is {size}, and {len(taken)} bytes are left in the body"
                    )
                at += size
                inputs[name] = InputTensor(datatype, from_binary(name, datatype, shape, taken))
            elif data is None:
                raise OipMalformedError(f"{name} has neither data nor binary_data_size")
            else:
                inputs[name] = InputTensor(datatype, from_values(name, datatype, shape, data))
        if at != len(binary):
            raise OipTensorError(f"{len(binary) - at} bytes of binary data belong to no input")
        asked = self._asked
        request_id = (self.id or header_id)[:REQUEST_ID_CHARS_MAX]
        return Question(*path, inputs, asked.deadline_s, began_ns, asked.key, asked.turn, request_id)

    def wanted(self, shared: SharedMemory) -> tuple[WantedOutput, ...]:
        """The outputs that the client named.

        Raises:
            OipError: a place that cannot be had.
        """
        return tuple(
            output._replace(slice=shared.slice(parameters, output.name)) if parameters else output
            for output, parameters in self._outputs
        )

    def _output(self, entry: Document) -> tuple[WantedOutput, Parameters]:
        name = entry.get("name")
        if not isinstance(name, str):
            raise OipMalformedError("an output has no name")
        parameters = _parameters(entry, name)
        binary = parameters.get("binary_data", self.binary) is True
        return WantedOutput(name, binary, None, classes_of(parameters, name)), parameters


def _input_head(entry: Document) -> InputHead:
    name, datatype, shape = tensor_head(entry.get("name"), entry.get("datatype"), entry.get("shape"))
    parameters = _parameters(entry, name)
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise OipMalformedError(f"{name}: binary_data_size must be a number of bytes, not {size!r:.40}")
    data = entry.get("data")
    ways = (("data", data), ("binary_data_size", size), (SHARED, parameters.get("shared_memory_region")))
    check_alone(name, [way for way, value in ways if value is not None])
    return InputHead(name, datatype, shape, parameters, size, data)


def read_object(data: Buffer) -> Document:
    """A JSON object.

    Raises:
        OipMalformedError: it is none.
    """
    try:
        document = json.loads(str(data, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise OipMalformedError(f"the body's JSON cannot be read: {str(error)[:100]}") from error
    if not isinstance(document, dict):
        raise OipMalformedError("the body must be a JSON object")
    return document


def write_json(document: Document | list[Document]) -> bytes:
    """As few bytes as JSON allows."""
    return _ENCODER.encode(document).encode()


def write_answer(answered: Answered, sent: list[SentOutput], request_id: str) -> tuple[bytes, list[Buffer]]:
    """The answer's JSON, and the binary outputs that follow it.

    Raises:
        OipUnsupportedError: an output cannot be said in JSON.
    """
    ref = answered.active.ref
    tensors: list[Buffer] = []
    if not request_id and all(output.wanted.binary and output.wanted.slice is None for output in sent):
        described = []
        for output in sent:
            tensor = to_binary(output.datatype, output.array)
            tensors.append(tensor)
            described.append((output.name, output.datatype, output.array.shape, len(tensor)))
        return _binary_answer(ref.name, ref.version, tuple(described)), tensors
    document: Document = {"model_name": ref.name, "model_version": ref.version}
    if request_id:
        document["id"] = request_id
    document["outputs"] = [_written(output, tensors) for output in sent]
    return write_json(document), tensors


@lru_cache(ANSWERS_KEPT_MAX)
def _binary_answer(name: str, version: str, outputs: tuple[tuple[str, str, tuple[int, ...], int], ...]) -> bytes:
    """The JSON of an answer that holds no number of its own: from one request to the next it is the same."""
    described = [
        {"name": output, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}
        for output, datatype, shape, size in outputs
    ]
    return write_json({"model_name": name, "model_version": version, "outputs": described})


def _written(output: SentOutput, tensors: list[Buffer]) -> Document:
    document: Document = {"name": output.name, "datatype": output.datatype, "shape": list(output.array.shape)}
    if (
        output.wanted.slice is not None
    ):  # and not a word about where: Triton's C++ client takes any parameters for a size
        return document
    if output.wanted.binary:
        tensors.append(to_binary(output.datatype, output.array))
        document["parameters"] = {"binary_data_size": len(tensors[-1])}
    else:
        document["data"] = to_values(output.name, output.datatype, output.array)
    return document


def _entries(document: Document, key: str) -> list[Document]:
    entries = document.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise OipMalformedError(f"{key} must be an array of objects")
    if len(entries) > TENSORS_MAX:
        raise OipMalformedError(f"{len(entries)} {key}; at most {TENSORS_MAX} are allowed")
    check_once(key, [entry.get("name") for entry in entries])
    return entries


def _parameters(document: Document, where: str) -> Parameters:
    parameters = document.get("parameters", NO_PARAMETERS)
    if not isinstance(parameters, dict):
        raise OipMalformedError(f"{where}: parameters must be an object")
    return parameters
