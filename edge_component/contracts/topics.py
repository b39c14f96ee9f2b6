"""MQTT topics, as pure strings.

``edgewright/v1/<thing name>/<kind>`` is what an IoT rule sees as ``topic()``. Devices publish through Basic Ingest
(``$aws/rules/<rule>/…``), which skips the broker and its price; the rule's own SQL still sees the short topic. The
thing name in the topic is enforced by the IoT policy against the connection's certificate; a name inside a payload
never identifies anybody.
"""

import re
from dataclasses import dataclass

from edge_component.contracts.errors import MalformedError

PREFIX = "edgewright/v1"
THING_NAME_PATTERN = re.compile(r"[A-Za-z0-9:_-]{1,128}")
"""AWS IoT's own rule for thing names; it holds no ``/``, ``+`` or ``#``, so a name can never change a topic's shape."""
KINDS = ("heartbeat", "window", "activation")
DEFAULT_RULE = "edgewright_ingest"
BASIC_INGEST_PREFIX = "$aws/rules"
DEPLOYMENT_NAMESPACE = "aws-gg-deployment"


@dataclass(frozen=True, slots=True)
class Address:
    """Who speaks about what."""

    thing_name: str
    kind: str


def topic(address: Address) -> str:
    """``edgewright/v1/<thing name>/<kind>``.

    Raises:
        MalformedError: not a thing's name, or a kind that nobody reads.
    """
    _check(address)
    return f"{PREFIX}/{address.thing_name}/{address.kind}"


def basic_ingest_topic(address: Address, rule: str = DEFAULT_RULE) -> str:
    """Where a device publishes: ``$aws/rules/<rule>/edgewright/v1/<thing name>/<kind>``; raises as :func:`topic`."""
    return f"{BASIC_INGEST_PREFIX}/{rule}/{topic(address)}"


def parse_topic(text: str) -> Address:
    """The inverse of :func:`topic`.

    Raises:
        MalformedError: not one of ours.
    """
    parts = text.split("/")
    if len(parts) != 4 or "/".join(parts[:2]) != PREFIX:
        raise MalformedError(f"{text!r} is not {PREFIX}/<thing name>/<{'|'.join(KINDS)}>", "topic")
    address = Address(parts[2], parts[3])
    _check(address)
    return address


def _check(address: Address) -> None:
    if not THING_NAME_PATTERN.fullmatch(address.thing_name):
        raise MalformedError(f"{address.thing_name!r} is not a thing name", "topic")
    if address.kind not in KINDS:
        raise MalformedError(f"{address.kind!r} is none of {', '.join(KINDS)}", "topic")
