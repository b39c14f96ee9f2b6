"""Whether a component's accessControl allows an operation on a resource. Pure.

The failure it exists for: a component that works on a permissive simulator and gets UnauthorizedError in the field.
Guarded are publishing, subscribing, and what touches other components; configuration and state need no policy.

In a policy's resources ``*`` stands for any characters, ``${*}``, ``${?}`` and ``${$}`` for those characters themselves,
and for the MQTT proxy a resource may also be an MQTT filter (``+``, ``#``). Source: read in Lite's ipc_authz and
policy_validation, and in AWS's page "authorize components".
"""

import re
from collections.abc import Mapping
from typing import Any

PUBSUB = "aws.greengrass.ipc.pubsub"
MQTT_PROXY = "aws.greengrass.ipc.mqttproxy"
CLI = "aws.greengrass.Cli"

GUARDED = {
    "PublishToTopic": PUBSUB,
    "SubscribeToTopic": PUBSUB,
    "PublishToIoTCore": MQTT_PROXY,
    "SubscribeToIoTCore": MQTT_PROXY,
    "RestartComponent": CLI,
    "StopComponent": CLI,
    "GetComponentDetails": CLI,
    "ListComponents": CLI,
}
"""Which service's policies guard an operation."""

_ESCAPES = {"${*}": "*", "${?}": "?", "${$}": "$"}


def is_allowed(access_control: object, operation: str, resource: str) -> bool:
    """Ask every policy of the operation's service; what cannot be read as a policy allows nothing.

    Args:
        access_control: the component's configuration under ``accessControl``, as it stands.
        operation: without namespace, such as ``PublishToIoTCore``.
        resource: the topic, filter or component asked for; ``*`` for all of them.
    """
    service = GUARDED[operation]
    policies = access_control.get(service) if isinstance(access_control, Mapping) else None
    if not isinstance(policies, Mapping):
        return False
    return any(_admits(policy, service, operation, resource) for policy in policies.values())


def _admits(policy: object, service: str, operation: str, resource: str) -> bool:
    if not isinstance(policy, Mapping):
        return False
    operations, resources = _texts(policy, "operations"), _texts(policy, "resources")
    if not {"*", f"aws.greengrass#{operation}"} & set(operations):
        return False
    return any(_resource_matches(pattern, resource, mqtt=service == MQTT_PROXY) for pattern in resources)


def _resource_matches(pattern: str, resource: str, *, mqtt: bool) -> bool:
    if mqtt and _covers(pattern, resource):
        return True
    parts = re.split(r"(\$\{[*?$]\}|\*)", pattern)
    return re.fullmatch("".join(map(_as_regex, parts)), resource, re.DOTALL) is not None


def _covers(mqtt_filter: str, resource: str) -> bool:
    """As Lite's matcher does: ``a/#`` does not cover ``a``, ``#`` covers ``$aws/…``, and a filter asked for is text."""
    levels, has_rest, _ = mqtt_filter.partition("#")
    regex = "[^/]*".join(map(re.escape, levels.split("+")))
    return re.fullmatch(regex + (".*" if has_rest else ""), resource, re.DOTALL) is not None


def _as_regex(part: str) -> str:
    return ".*" if part == "*" else re.escape(_ESCAPES.get(part, part))


def _texts(policy: Mapping[Any, Any], name: str) -> tuple[str, ...]:
    value = policy.get(name)
    return tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list) else ()
