"""The validator against botocore's own, and against every pattern of every real operation."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.validate import ParamValidator
from hypothesis import given, strategies as st
from moto.core.model import ListShape, MapShape, Shape, StructureShape
from moto.core.utils import get_service_model

from simulator.aws.errors import InvalidRequestError
from simulator.aws.published_list import real_operations
from simulator.aws.validation import compiled_pattern, validate, violations

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def shapes(shape: Shape | None, seen: set[str]) -> Iterator[Shape]:
    if shape is None or shape.name in seen:
        return
    seen.add(shape.name)
    yield shape
    children: list[Any] = []
    if isinstance(shape, StructureShape):
        children = list(shape.members.values())
    elif isinstance(shape, ListShape):
        children = [shape.member]
    elif isinstance(shape, MapShape):
        children = [shape.key, shape.value]
    for child in children:
        yield from shapes(child, seen)


@pytest.mark.parametrize("service", sorted(real_operations()))
def test_every_pattern_of_every_real_operation_is_understood(service: str) -> None:
    model, seen = get_service_model(service), set[str]()
    found = [
        shape
        for name in real_operations()[service]
        for shape in shapes(model.operation_model(name).input_shape, seen)
        if shape.metadata.get("pattern")
    ]
    assert [shape.name for shape in found if compiled_pattern(shape.metadata["pattern"]) is None] == []


def operation(service: str, name: str) -> Any:
    return get_service_model(service).operation_model(name)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "targetArn": JSON,
            "deploymentName": JSON,
            "components": JSON
            | st.dictionaries(st.text(max_size=3), st.fixed_dictionaries({"componentVersion": JSON})),
            "deploymentPolicies": st.fixed_dictionaries({"componentUpdatePolicy": JSON}) | JSON,
            "tags": JSON,
        },
    )
)
def test_whatever_botocore_refuses_is_refused_here_too(parameters: dict[str, Any]) -> None:
    shape = operation("greengrassv2", "CreateDeployment").input_shape
    present = {name: value for name, value in parameters.items() if value is not None}
    report = ParamValidator().validate(present, shape)
    unknown_only = all(kind == "unknown field" for kind, _, _ in report._errors)
    if report.has_errors() and not unknown_only:  # on the wire, unknown members are dropped by the parser
        assert list(violations(shape, present))


VALID = {"targetArn": "arn:aws:iot:us-east-1:123456789012:thinggroup/ring"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targetArn": None}, "Value null at 'targetArn' failed to satisfy constraint: Member must not be null"),
        ({"targetArn": "arn:x"}, "regular expression pattern"),
        ({"targetArn": VALID["targetArn"] + "\n"}, "regular expression pattern"),
        ({"deploymentName": ""}, "length greater than or equal to 1"),
        ({"deploymentName": 5}, "'5' at 'deploymentName' failed to satisfy constraint: Member must be a string"),
        ({"tags": {"k" * 129: "v"}}, "'tags.key'"),
        ({"tags": []}, "Member must be a map"),
        ({"components": {"c": {}}}, "'components.c.member.componentVersion'"),
        ({"components": {"c": {"componentVersion": "1.0.0", "configurationUpdate": {"reset": "x"}}}}, "must be a list"),
        ({"deploymentPolicies": {"failureHandlingPolicy": "retry"}}, "enum value set: [ROLLBACK, DO_NOTHING]"),
        ({"deploymentPolicies": {"componentUpdatePolicy": {"timeoutInSeconds": True}}}, "of type integer"),
        ({"deploymentPolicies": {"componentUpdatePolicy": {"timeoutInSeconds": 1.5}}}, "of type integer"),
        ({"iotJobConfiguration": {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1001}}}, "less than or equal to 1000"),
    ],
)  # fmt: skip
def test_each_kind_of_constraint_is_named_with_its_member(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate("greengrassv2", operation("greengrassv2", "CreateDeployment"), VALID | changes)
    assert message in caught.value.message
    assert caught.value.code == "ValidationException"


def test_a_valid_request_passes() -> None:
    validate("greengrassv2", operation("greengrassv2", "CreateDeployment"), VALID)


def test_all_violations_are_told_at_once_up_to_a_limit() -> None:
    components = {f"c{number}": {} for number in range(20)}
    with pytest.raises(InvalidRequestError, match="20 validation errors detected") as caught:
        validate("greengrassv2", operation("greengrassv2", "CreateDeployment"), VALID | {"components": components})
    assert caught.value.message.count("must not be null") == 10
