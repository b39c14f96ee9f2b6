"""Every way in which a queue body can be wrong has its own code; nothing raises."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cloud.fleet.facts import ActivationFact, DeploymentStatusFact, HeartbeatFact, Rejection, WindowFact
from cloud.fleet.ingest import read_body
from cloud.fleet.store import activation_sentence
from edge_component.contracts.envelope import Envelope
from tests.cloud.fleet.samples import T0, activation_fact, heartbeat, rule_output, window_fact

MESSAGE = Envelope("heartbeat", "EWR", "e1", 3, T0, heartbeat().to_document())

DEPLOYMENT: dict[str, Any] = {
    "version": "0",
    "id": "ev1",
    "detail-type": "Greengrass V2 Effective Deployment Status Change",
    "source": "aws.greengrass",
    "account": "123456789012",
    "time": "2026-01-01T00:00:10Z",
    "region": "us-east-1",
    "resources": ["arn:aws:greengrass:us-east-1:123456789012:coreDevices:EWR"],
    "detail": {
        "deploymentId": "dep-1",
        "coreDeviceExecutionStatus": "FAILED",
        "reason": "FAILED_ROLLBACK_NOT_REQUESTED",
        "statusDetails": {"errorStack": ["DEPLOYMENT_FAILURE"], "errorTypes": ["COMPONENT_ERROR"]},
    },
}


def test_reads_each_kind_of_message() -> None:
    window, activation = window_fact(1), activation_fact(1)
    heartbeat_fact = read_body(rule_output(MESSAGE))
    assert isinstance(heartbeat_fact, HeartbeatFact)
    assert heartbeat_fact.origin.thing_name == "EWR"
    assert heartbeat_fact.heartbeat == heartbeat()
    for kind, fact, document in (
        ("window", WindowFact, window.window.to_document()),
        ("activation", ActivationFact, activation.event.to_document()),
    ):
        assert isinstance(read_body(rule_output(replace(MESSAGE, kind=kind, body=document))), fact)


@pytest.mark.parametrize("outcome", ["floor-lowered", "moved-to-the-moon"])
def test_an_outcome_of_a_later_runtime_is_history_too(outcome: str) -> None:
    """Devices are upgraded before the cloud, too: what an operator did there must not end in the dead-letter queue."""
    event = activation_fact(1, outcome).event
    fact = read_body(rule_output(replace(MESSAGE, kind="activation", body=event.to_document())))
    assert isinstance(fact, ActivationFact)
    assert fact.event == event
    assert outcome in activation_sentence(fact)


def test_an_outcome_that_is_no_word_is_malformed() -> None:
    body = {**activation_fact(1).event.to_document(), "outcome": "\x1b[2J"}
    found = read_body(rule_output(replace(MESSAGE, kind="activation", body=body)))
    assert isinstance(found, Rejection)
    assert "outcome" in found.sentence


def test_reads_a_deployment_status() -> None:
    fact = read_body(json.dumps(DEPLOYMENT))
    assert isinstance(fact, DeploymentStatusFact)
    assert (fact.thing_name, fact.deployment_id, fact.status) == ("EWR", "dep-1", "FAILED")
    assert fact.error_types == ("COMPONENT_ERROR",)


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


def payload(data: bytes) -> str:
    return json.dumps({**json.loads(rule_output(MESSAGE)), "payload_b64": base64.b64encode(data).decode()})


BAD = [
    ("not-json", "{"),
    ("not-json", "[]"),
    ("not-json", '"\ud800"'),
    ("unknown-shape", "{}"),
    ("bad-rule-output", json.dumps(without(json.loads(rule_output(MESSAGE)), "received_at_ms"))),
    ("bad-rule-output", json.dumps({**json.loads(rule_output(MESSAGE)), "payload_b64": "?"})),
    ("bad-rule-output", rule_output(MESSAGE, kind="gossip")),
    ("bad-thing-name", rule_output(MESSAGE, thing_name="../EWR")),
    ("identity", rule_output(MESSAGE, thing_name="JFK")),
    ("kind-mismatch", rule_output(MESSAGE, kind="window")),
    ("malformed", payload(b"not json")),
    ("malformed", rule_output(replace(MESSAGE, epoch="e" * 65))),
    ("malformed", rule_output(replace(MESSAGE, body={**MESSAGE.body, "process_id": True}))),
    ("malformed", rule_output(replace(MESSAGE, kind="window", body=window_fact(1, part=2).window.to_document()))),
    ("unsupported-version", rule_output(replace(MESSAGE, body={**MESSAGE.body, "schema": "edgewright.heartbeat/2"}))),
    ("too-large", payload(b" " * 6_000)),
    ("unknown-event", json.dumps({**DEPLOYMENT, "source": "aws.ec2"})),
    ("malformed-event", json.dumps({**DEPLOYMENT, "resources": []})),
    ("malformed-event", json.dumps({**DEPLOYMENT, "detail": without(DEPLOYMENT["detail"], "deploymentId")})),
]


@pytest.mark.parametrize(("code", "body"), BAD, ids=[f"{code}-{index}" for index, (code, _) in enumerate(BAD)])
def test_bad_bodies_are_rejected_with_their_reason(code: str, body: str) -> None:
    outcome = read_body(body)
    assert isinstance(outcome, Rejection)
    assert outcome.code == code
    assert outcome.sentence


def test_a_payload_that_names_another_thing_is_rejected_under_the_topics_name() -> None:
    outcome = read_body(rule_output(MESSAGE, thing_name="JFK"))
    assert isinstance(outcome, Rejection)
    assert outcome.thing_name == "JFK"
    assert "'EWR'" in outcome.sentence


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(MESSAGE.to_document())), JSON)
def test_any_value_in_any_envelope_field_is_a_fact_or_a_rejection(name: str, value: object) -> None:
    document = {**MESSAGE.to_document(), name: value}
    assert read_body(payload(json.dumps(document).encode())) is not None


@given(st.sampled_from(sorted(MESSAGE.body)), JSON)
def test_any_value_in_any_heartbeat_field_is_a_fact_or_a_rejection(name: str, value: object) -> None:
    document = {**MESSAGE.to_document(), "body": {**MESSAGE.body, name: value}}
    assert read_body(payload(json.dumps(document).encode())) is not None


@given(st.text(max_size=60) | JSON.map(json.dumps))
def test_any_text_is_a_fact_or_a_rejection(body: str) -> None:
    assert isinstance(read_body(body), Rejection)


@given(st.sampled_from(sorted(DEPLOYMENT)), JSON)
def test_any_value_in_any_event_field_is_a_fact_or_a_rejection(name: str, value: object) -> None:
    assert read_body(json.dumps({**DEPLOYMENT, name: value})) is not None


def test_a_thing_named_as_another_s_arn_speaks_for_itself_alone() -> None:
    """Colons are allowed in thing names."""
    arn = "arn:aws:greengrass:us-east-1:123456789012:coreDevices:evil:coreDevices:EWR"
    fact = read_body(json.dumps({**DEPLOYMENT, "resources": [arn]}))
    assert isinstance(fact, DeploymentStatusFact)
    assert fact.thing_name == "evil:coreDevices:EWR"
