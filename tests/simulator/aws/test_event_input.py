import json

import pytest
from hypothesis import given, strategies as st

from simulator.aws.event_input import TargetInputError, at_path, check_target, target_input

RULE = "arn:aws:events:us-east-1:123456789012:rule/drift"
EVENT = {
    "source": "edgewright.drift",
    "resources": ["arn:one"],
    "detail": {"model": 'say "weather"', "psi": 0.5, "window-id": {"n": 3}},
}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({}, EVENT),
        ({"Input": '{"constant": 1}'}, {"constant": 1}),
        ({"InputPath": "$.detail.psi"}, 0.5),
        ({"InputPath": "$.detail['window-id'].n"}, 3),
        ({"InputPath": "$.resources[0]"}, "arn:one"),
        ({"InputPath": "$.detail.missing"}, None),
        ({"InputPath": "$"}, EVENT),
    ],
)
def test_input_and_input_path(target, expected):
    assert json.loads(target_input(target, EVENT, RULE)) == expected


def test_a_template_puts_json_outside_of_strings_and_text_within_them():
    transformer = {
        "InputPathsMap": {"m": "$.detail.model", "psi": "$.detail.psi", "w": "$.detail.window-id"},
        "InputTemplate": '{"model": <m>, "why": "psi of <m> is <psi>", "window": <w>, "rule": <aws.events.rule-name>,'
        ' "all": <aws.events.event.json>}',
    }
    assert json.loads(target_input({"InputTransformer": transformer}, EVENT, RULE)) == {
        "model": 'say "weather"',
        "why": 'psi of say "weather" is 0.5',
        "window": {"n": 3},
        "rule": "drift",
        "all": EVENT,
    }


@given(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_whatever_the_values_are_the_filled_template_is_json(text, value):
    transformer = {
        "InputPathsMap": {"t": "$.detail.t", "v": "$.detail.v"},
        "InputTemplate": '{"text": <t>, "value": <v>, "within": "<t>"}',
    }
    filled = target_input({"InputTransformer": transformer}, {"detail": {"t": text, "v": value}}, RULE)
    assert json.loads(filled) == {"text": text, "value": value, "within": text}


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ({"InputPath": "detail"}, "'detail'"),
        ({"InputPath": "$.a..b"}, "path"),
        ({"InputPath": "$", "Input": "{}"}, "only one"),
        ({"InputTransformer": {"InputTemplate": "<x>"}}, "<x>"),
        ({"InputTransformer": {"InputPathsMap": {"x": "$[a]"}, "InputTemplate": "<x>"}}, "path"),
    ],
)
def test_a_malformed_target_is_found_beforehand(target, named):
    with pytest.raises(TargetInputError, match=named):
        check_target(target)


def test_paths_into_the_wrong_kind_of_value_find_nothing():
    assert at_path("$.resources.name", EVENT) is None
    assert at_path("$.detail[0]", EVENT) is None
