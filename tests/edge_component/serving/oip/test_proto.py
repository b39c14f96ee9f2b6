"""Our .proto text is the public protocol: the same names, numbers and types as the reference client's, call for call."""

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

from edge_component.serving.oip_grpc import PROTO_FILE, SERVICE
from edge_component.serving.proto_text import ProtoTextError, load_proto, parse_proto

OURS = load_proto(PROTO_FILE.read_text(), PROTO_FILE.name)


def theirs(name: str) -> Descriptor:
    outer, _, inner = name.partition(".")
    known = {**model_config_pb2.DESCRIPTOR.message_types_by_name, **service_pb2.DESCRIPTOR.message_types_by_name}
    return known[outer].nested_types_by_name[inner] if inner else known[outer]


def told(field: FieldDescriptor) -> tuple[object, ...]:
    of_type = field.message_type or field.enum_type
    oneof = field.containing_oneof
    return (
        field.number, field.type, field.is_repeated, of_type.full_name if of_type else "", oneof.name if oneof else "",
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(OURS.messages))
def test_every_field_is_the_protocols(name: str) -> None:
    reference = {field.name: told(field) for field in theirs(name).fields}
    for field in OURS.messages[name].DESCRIPTOR.fields:
        assert reference[field.name] == told(field)


def test_every_enum_value_is_the_protocols() -> None:
    reference = {value.name: value.number for value in model_config_pb2.DataType.DESCRIPTOR.values}
    ours = OURS.messages["ModelInput"].DESCRIPTOR.fields_by_name["data_type"].enum_type
    assert {value.name: value.number for value in ours.values} == reference


def test_every_call_is_the_protocols() -> None:
    reference = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for name, rpc in OURS.services[SERVICE].items():
        method = reference[name]
        assert rpc.request.DESCRIPTOR.full_name == method.input_type.full_name
        assert rpc.response.DESCRIPTOR.full_name == method.output_type.full_name
        assert (rpc.is_request_stream, rpc.is_response_stream) == (method.client_streaming, method.server_streaming)


def test_no_call_is_left_out() -> None:
    assert set(OURS.services[SERVICE]) == set(
        service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("message A {", "ends in mid-sentence"),
        ("message A { int32 a = 1 }", "'}' where ';' is expected"),
        ("import 'x';", "cannot read"),
        ("option a = 1;", "'option' is not expected here"),
        ("message A { int32 a = §; }", "cannot read"),
    ],
)
def test_text_that_is_not_read_is_told(text: str, told: str) -> None:
    with pytest.raises(ProtoTextError, match=told):
        parse_proto(text, "a.proto")


@given(st.text(alphabet='message{}A=;1 repeatdonf<>,"', max_size=60))
def test_any_text_ends_in_a_descriptor_or_an_error(text: str) -> None:
    try:
        parse_proto(text, "a.proto")
    except (ProtoTextError, ValueError):
        return
