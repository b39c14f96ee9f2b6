"""What we write and read of a prediction by hand is what protobuf writes and reads; a message known by its bytes is no other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings, strategies as st
from tritonclient.grpc import service_pb2

from edge_component.errors import DeviceError
from edge_component.serving.oip_grpc_calls import FINAL
from edge_component.serving.oip_grpc_infer import HEAD_KEPT_BYTES, InferenceHead, Recurring
from edge_component.serving.oip_request import Slice
from edge_component.serving.oip_wire import (
    RAW_INPUT,
    RAW_OUTPUT,
    answer_head,
    message_field,
    output_field,
    tail_of,
    text_field,
    varint,
)

texts = st.text(max_size=12) | st.sampled_from(["", "x", "größe", "模型", "n" * 200])
parameters = st.dictionaries(texts, st.integers(-(2**63), 2**63 - 1) | texts, max_size=3)
outputs = st.lists(
    st.tuples(texts, st.sampled_from(["FP32", "BYTES", "UINT8"]), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), parameters,
              st.binary(max_size=300)), max_size=4)  # fmt: skip


@given(texts, texts, texts, outputs, st.booleans())
def test_an_answer_written_by_hand_is_the_message(
    name: str, version: str, request_id: str, sent: list[tuple[Any, ...]], is_last: bool
) -> None:
    message = service_pb2.ModelInferResponse(model_name=name, model_version=version, id=request_id)
    fields = []
    for output, datatype, shape, given_parameters, raw in sent:
        fields.append(output_field(output, datatype, shape, given_parameters.items()))
        written = message.outputs.add(name=output, datatype=datatype, shape=shape)
        for key, value in given_parameters.items():
            setattr(written.parameters[key], "string_param" if isinstance(value, str) else "int64_param", value)
        message.raw_output_contents.append(raw)
    content = answer_head(name, version, request_id, fields)
    content += b"".join(RAW_OUTPUT + varint(len(raw)) + raw for *_, raw in sent)
    if is_last:
        content += FINAL
        message.parameters["triton_final_response"].bool_param = True
    assert service_pb2.ModelInferResponse.FromString(content) == message
    streamed = service_pb2.ModelStreamInferResponse.FromString(message_field(2, content))
    assert streamed.infer_response == message


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_number_is_coded_as_protobuf_codes_it(value: int) -> None:
    tensor = service_pb2.InferTensorContents(uint64_contents=[value & 2**64 - 1]).SerializeToString()
    assert tensor == message_field(5, varint(value))


@given(st.lists(st.binary(max_size=200), max_size=5), texts)
def test_raw_contents_are_found_at_a_messages_end(contents: list[bytes], name: str) -> None:
    data = service_pb2.ModelInferRequest(model_name=name, raw_input_contents=contents).SerializeToString()
    marks = tail_of(data, [len(each) for each in contents])
    assert marks is not None
    assert [data[at + len(mark) : end] for at, mark, end in marks] == contents
    assert data[: marks[0][0] if marks else len(data)] == text_field(1, name)


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        (b"", [0]),
        (RAW_INPUT + b"\x03abc", [2]),
        (RAW_INPUT + b"\x03abc", [4]),
        (RAW_INPUT + b"\x83\x00abc", [3]),  # a length that is longer than it need be
        (RAW_INPUT + b"\x03abc" + text_field(1, "late"), [3]),
        (RAW_INPUT + b"\x03abc", [3, 3]),
    ],
)
def test_what_does_not_end_in_those_contents(data: bytes, sizes: list[int]) -> None:
    assert tail_of(data, sizes) is None


@dataclass(frozen=True, slots=True)
class Region:
    """Shared memory of zeros."""

    name: str
    tensor_bytes_max: int = 2**62

    def read(self, _: int, size: int) -> bytes:
        return bytes(size)


class Shared:
    """Every region is registered."""

    def slice(self, given_parameters: Any, _: str) -> Slice | None:
        name = given_parameters.get("shared_memory_region")
        size = given_parameters.get("shared_memory_byte_size", 0)
        return None if name is None else Slice(Region(name), given_parameters.get("shared_memory_offset", 0), size)  # type: ignore[arg-type]


def told(head: InferenceHead, raw: list[Any]) -> object:
    """All that a message asks for; or how it is refused."""
    shared: Any = Shared()
    try:
        question = head.question(raw, shared, 5.0, 7, "by header")
        wanted = head.wanted(shared)
    except DeviceError as error:
        return str(error)
    inputs = {
        name: (given.datatype, given.array.dtype, given.array.shape, given.array.tolist())
        for name, given in question.inputs.items()
    }
    return question._replace(inputs={}), inputs, wanted, head.id, head.parameters, head.is_typed


def request(rows: int, seed: int, request_id: str, form: str) -> bytes:
    """One input ``x`` of ``rows`` numbers, in one of several forms, some of which no client sends."""
    values = (np.arange(rows, dtype=np.float32) + seed).tobytes()
    message = service_pb2.ModelInferRequest(model_name="scale", id=request_id)
    x = message.inputs.add(name="x", datatype="FP32", shape=[rows])
    if form == "typed":
        x.contents.fp32_contents.extend(np.frombuffer(values, np.float32).tolist())
    elif form == "shared":
        x.parameters["shared_memory_region"].string_param = "region"
        x.parameters["shared_memory_byte_size"].int64_param = 4 * rows
    else:
        message.raw_input_contents.append(values)
    if form == "two":
        message.inputs.add(name="y", datatype="UINT8", shape=[seed % 3])
        message.raw_input_contents.append(bytes(seed % 3))
    if form == "sequence":
        message.parameters["sequence_id"].int64_param = 7
        message.parameters["sequence_start"].bool_param = seed % 2 == 0
    if form == "wanted":
        message.outputs.add(name="y").parameters["classification"].int64_param = seed % 2
    if form == "too many":
        message.raw_input_contents.append(b"")
    whole: bytes = message.SerializeToString()
    message.ClearField("raw_input_contents")
    head = message.SerializeToString()
    raw, nothing = message_field(7, values), message_field(7, bytes(len(values)))
    odd = {
        "raw first": raw + head,
        "raw first and last": raw + head + message_field(7, b""),
        "the model's name again": head + text_field(1, "other") + raw,
        "an id behind it": head + raw + text_field(3, "late"),
        "another field in its place": head + message_field(9, values),
        "an id that ends as raw contents do": nothing + head + message_field(3, b"id" + nothing),
        "an id that ends as others do": nothing + head + message_field(3, b"id" + message_field(7, b"a" * len(values))),
    }
    return odd.get(form, whole)


FORMS = [
    "raw", "raw", "typed", "shared", "two", "sequence", "wanted", "too many", "raw first", "raw first and last",
    "the model's name again", "an id behind it", "another field in its place", "an id that ends as raw contents do",
    "an id that ends as others do",
]  # fmt: skip
asked = st.tuples(st.integers(0, 3), st.sampled_from(["", "a"]), st.sampled_from(FORMS))


@settings(max_examples=500)
@given(
    st.integers(1, 3),
    st.lists(asked, min_size=1, max_size=4),
    st.lists(st.integers(0, 3), max_size=25),
    st.integers(-1, 400),
    st.integers(0, 255),
)
@example(1, [(0, "", "raw"), (0, "", "another field in its place")], [0, 0, 1], -1, 0)
@example(1, [(0, "", "raw"), (0, "", "too many")], [0, 0, 1], -1, 0)
@example(1, [(0, "", "an id that ends as raw contents do"), (0, "", "an id that ends as others do")], [0, 0, 1], -1, 0)
def test_a_message_known_by_its_bytes_says_what_it_says(
    rows: int, kinds: list[tuple[int, str, str]], order: list[int], broken_at: int, byte: int
) -> None:
    """Whatever came before it: others of its length, with other heads, or broken ones."""
    recurring = Recurring()
    for turn, which in enumerate(order):
        data = bytearray(request(rows, *kinds[which % len(kinds)]))
        if turn % 4 == 3 and 0 <= broken_at < len(data):
            data[broken_at] = byte
        known = recurring.find(memoryview(data))
        try:
            message = service_pb2.ModelInferRequest.FromString(bytes(data))
            head = InferenceHead(message)
        except (DecodeError, DeviceError):
            assert known is None
            continue
        if known is None:
            recurring.keep(memoryview(data), message, head)
        else:
            found, raw = known
            assert [bytes(each) for each in raw] == list(message.raw_input_contents)
            assert told(found, raw) == told(head, list(message.raw_input_contents))


@pytest.mark.parametrize("form", ["raw", "shared", "two", "sequence", "wanted"])
def test_the_third_of_a_kind_is_known(form: str) -> None:
    recurring = Recurring()
    for seed in (0, 6):
        data = request(2, seed, "id", form)
        assert recurring.find(data) is None
        message = service_pb2.ModelInferRequest.FromString(data)
        recurring.keep(data, message, InferenceHead(message))
    again = request(2, 12, "id", form)
    assert recurring.find(again) is not None
    assert recurring.find(request(2, 12, "di", form)) is None
    raw = service_pb2.ModelInferRequest.FromString(again).raw_input_contents
    assert not raw or again[recurring.raw_at :].startswith(raw[0])


def test_a_long_head_is_not_kept() -> None:
    recurring = Recurring()
    data = request(2, 0, "i" * HEAD_KEPT_BYTES, "raw")
    message = service_pb2.ModelInferRequest.FromString(data)
    for _ in range(3):
        recurring.keep(data, message, InferenceHead(message))
    assert recurring.find(data) is None
