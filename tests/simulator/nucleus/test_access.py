"""Which policy admits what."""

import pytest

from simulator.nucleus.access import MQTT_PROXY, PUBSUB, is_allowed


def control(service: str, operations: list[str], resources: list[str]) -> dict[str, object]:
    return {service: {"one": {"policyDescription": "", "operations": operations, "resources": resources}}}


@pytest.mark.parametrize(
    ("pattern", "resource", "allowed"),
    [
        ("*", "any/thing", True), ("a/b", "a/b", True), ("a/b", "a/bc", False), ("a/*/c", "a/x/y/c", True),
        ("a/#", "a/b/c", True), ("a/+", "a/b", True), ("a/+", "a/b/c", False), ("a/#", "a/#", True),
        ("a/#", "a", False), ("#", "$aws/rules/x/y", True), ("a/+/c", "a/b/c", True), ("a+", "abc", True),
        ("$aws/rules/x/*", "$aws/rules/x/y", True), ("${*}", "*", True), ("${*}", "x", False), ("a.c", "abc", False),
    ],
)  # fmt: skip
def test_mqtt_resources(pattern: str, resource: str, allowed: bool) -> None:
    granted = control(MQTT_PROXY, ["aws.greengrass#PublishToIoTCore"], [pattern])
    assert is_allowed(granted, "PublishToIoTCore", resource) is allowed


def test_mqtt_wildcards_mean_nothing_to_local_topics() -> None:
    granted = control(PUBSUB, ["*"], ["a/+"])
    assert not is_allowed(granted, "PublishToTopic", "a/b")
    assert is_allowed(granted, "SubscribeToTopic", "a/+")


@pytest.mark.parametrize(
    "granted",
    [
        None, {}, "text", {MQTT_PROXY: []}, {MQTT_PROXY: {"one": "text"}}, {PUBSUB: {"one": {}}},
        {MQTT_PROXY: {"one": {"operations": "*", "resources": ["*"]}}},
        control(MQTT_PROXY, ["aws.greengrass#SubscribeToIoTCore"], ["*"]), control(MQTT_PROXY, ["*"], []),
    ],
)  # fmt: skip
def test_what_is_no_policy_allows_nothing(granted: object) -> None:
    assert not is_allowed(granted, "PublishToIoTCore", "a")
