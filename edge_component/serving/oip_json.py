"""A prediction over REST: the JSON document, the binary tensor extension behind it, and the answer. Pure.

The body is ``<JSON><tensor><tensor>…``; the header ``Inference-Header-Content-Length`` says where the JSON ends, and each
binary input's ``binary_data_size`` how much of the rest is its own, in the order of the inputs. Without that header all of
the body is JSON.
"""

import json
from typing import Any

from edge_component.serving.oip_codec import Buffer, from_binary, from_values, to_binary, to_values
from edge_component.serving.oip_errors import OipMalformedError, OipTensorError
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

Document = dict[str, Any]


_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one for each answer


class InferenceBody:
    """One request's body, read.

    Attributes:
        question: whom to ask what.
        id: to be given back; empty if the client gave none.
        wanted: the outputs that the client named.
        binary: whether outputs that it did not name are to be binary.
    """

    __slots__ = ("_at", "_binary", "_shared", "binary", "id", "question", "wanted")

    def __init__(
        self,
        path: tuple[str, str],
        body: memoryview,
        json_bytes: int,
        shared: SharedMemory,
        began_ns: int,
        header_id: str = "",
    ) -> None:
        """Read it; ``path`` is model name and version, ``json_bytes`` where the JSON ends.

        ``header_id`` names it in logs where the body does not; it is not given back.

        Raises:
            OipError: naming what is wrong.
        """
        document = read_object(body[:json_bytes])
        self._binary = body[json_bytes:]
        self._at = 0
        self._shared = shared
        parameters = _parameters(document, "the request")
        self.id = document.get("id", "")
        if not isinstance(self.id, str):
            raise OipMalformedError("id must be text")
        self.binary = parameters.get("binary_data_output") is True
        inputs = dict(self._input(entry) for entry in _entries(document, "inputs"))
        if self._at != len(self._binary):
            raise OipTensorError(f"{len(self._binary) - self._at} bytes of binary data belong to no input")
        self.wanted = tuple(self._output(entry) for entry in _entries(document, "outputs"))
        self.question: Question = question_of(path, inputs, parameters, None, began_ns, self.id or header_id)

    def _input(self, entry: Document) -> tuple[str, InputTensor]:
        name, datatype, shape = tensor_head(entry.get("name"), entry.get("datatype"), entry.get("shape"))
        parameters = _parameters(entry, name)
        place = self._shared.slice(parameters, name)
        if place is not None:
            return name, shared_input(name, datatype, shape, place)
        size = parameters.get("binary_data_size")
        if size is not None:
            return name, InputTensor(datatype, from_binary(name, datatype, shape, self._take(name, size)))
        if "data" not in entry:
            raise OipMalformedError(f"{name} has neither data nor binary_data_size")
        return name, InputTensor(datatype, from_values(name, datatype, shape, entry["data"]))

    def _take(self, name: str, size: object) -> memoryview:
        if type(size) is not int or size < 0:
            raise OipMalformedError(f"{name}: binary_data_size must be a number of bytes, not {size!r:.40}")
        taken = self._binary[self._at : self._at + size]
        if len(taken) < size:
            raise OipTensorError(f"{name}: binary_data_size is {size}, and {len(taken)} bytes are left in the body")
        self._at += size
        return taken

    def _output(self, entry: Document) -> WantedOutput:
        name = entry.get("name")
        if not isinstance(name, str):
            raise OipMalformedError("an output has no name")
        parameters = _parameters(entry, name)
        binary = parameters.get("binary_data", self.binary) is True
        return WantedOutput(name, binary, self._shared.slice(parameters, name), classes_of(parameters, name))


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
    tensors: list[Buffer] = []
    document: Document = {"model_name": answered.active.ref.name, "model_version": answered.active.ref.version}
    if request_id:
        document["id"] = request_id
    document["outputs"] = [_written(output, tensors) for output in sent]
    return write_json(document), tensors


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
    if len(entries) > 1:
        names = [entry.get("name") for entry in entries]
        if any(names.count(name) > 1 for name in names):
            raise OipMalformedError(f"{key} name a tensor twice")
    return entries


def _parameters(document: Document, where: str) -> Parameters:
    parameters = document.get("parameters", NO_PARAMETERS)
    if not isinstance(parameters, dict):
        raise OipMalformedError(f"{where}: parameters must be an object")
    return parameters
