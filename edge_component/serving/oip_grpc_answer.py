"""A prediction's answer over gRPC, written: raw as bytes that were mostly written before, typed as a message.

An :class:`AnswerWriter` belongs to one connection; from any thread.
"""

from typing import Any

from edge_component.rpc.messages import Buffer
from edge_component.serving.grpc_service import Fields
from edge_component.serving.oip_codec import to_binary, to_values
from edge_component.serving.oip_grpc_infer import CONTENTS
from edge_component.serving.oip_request import SentOutput
from edge_component.serving.oip_service import Answered
from edge_component.serving.oip_wire import RAW_OUTPUT, answer_head, output_field, varint

HEADS_KEPT = 32


class AnswerWriter:
    """Writes raw answers, each head once."""

    def __init__(self) -> None:
        """None written yet."""
        self._heads: dict[tuple[object, ...], bytes] = {}

    def parts(self, answered: Answered, sent: list[SentOutput], request_id: str) -> list[Buffer]:
        """A ``ModelInferResponse``, in pieces: one raw content for each output, since clients find theirs by its place."""
        ref = answered.active.ref
        looks = [(output.name, output.datatype, output.array.shape, _parameters(output)) for output in sent]
        key = (ref.name, ref.version, request_id, *looks)
        head = self._heads.get(key)
        if head is None:
            head = answer_head(ref.name, ref.version, request_id, (output_field(*look) for look in looks))
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[key] = head
        parts: list[Buffer] = [head]
        for output in sent:
            raw = b"" if output.wanted.slice is not None else to_binary(output.datatype, output.array)
            parts += (RAW_OUTPUT + varint(len(raw)), raw)
        return parts


def is_answered_typed(sent: list[SentOutput], *, is_typed: bool) -> bool:
    """Whether the answer takes the typed form, as the request did."""
    return is_typed and all(output.datatype in CONTENTS for output in sent)


def typed_fields(answered: Answered, sent: list[SentOutput], request_id: str) -> Fields:
    """The fields of a ``ModelInferResponse`` with typed contents."""
    return {
        "model_name": answered.active.ref.name,
        "model_version": answered.active.ref.version,
        "id": request_id,
        "outputs": [_typed(output) for output in sent],
    }


def _typed(output: SentOutput) -> Fields:
    fields: Fields = {"name": output.name, "datatype": output.datatype, "shape": output.array.shape}
    parameters = _parameters(output)
    if parameters:
        fields["parameters"] = {
            key: {"string_param" if isinstance(value, str) else "int64_param": value} for key, value in parameters
        }
    else:
        fields["contents"] = {CONTENTS[output.datatype]: _contents(output)}
    return fields


def _parameters(output: SentOutput) -> tuple[tuple[str, str | int], ...]:
    place = output.wanted.slice
    if place is None:
        return ()
    return (
        ("shared_memory_region", place.region.name),
        ("shared_memory_offset", place.offset),
        ("shared_memory_byte_size", output.written_bytes),
    )


def _contents(output: SentOutput) -> list[Any]:
    if output.datatype == "BYTES":
        texts: list[object] = output.array.reshape(-1).tolist()
        return [str(text).encode() for text in texts]
    if output.array.dtype.kind == "f":
        return list(output.array.reshape(-1).tolist())  # protobuf carries NaN and infinities
    return to_values(output.name, output.datatype, output.array)
