"""MQTT topics, as pure strings.

``edgewright/v1/<thing name>/<kind>`` is what an IoT rule sees as ``topic()``. Devices publish through Basic Ingest
(``$aws/rules/<rule>/…``), which skips the broker and its price; the rule's own SQL still sees the short topic. The
thing name in the topic is enforced by the IoT policy against the connection's certificate; a name inside a payload
never identifies anybody.
"""

from dataclasses import dataclass

from edge_component.contracts.errors import MalformedError

PREFIX = "edgewright/v1"
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
    """``edgewright/v1/<thing name>/<kind>``."""
    return f"{PREFIX}/{address.thing_name}/{address.kind}"


def basic_ingest_topic(address: Address, rule: str = DEFAULT_RULE) -> str:
    """Where a device publishes: ``$aws/rules/<rule>/edgewright/v1/<thing name>/<kind>``."""
    return f"{BASIC_INGEST_PREFIX}/{rule}/{topic(address)}"


def parse_topic(text: str) -> Address:
    """The inverse of :func:`topic`.

    Raises:
        MalformedError: not one of ours.
    """
    parts = text.split("/")
    if len(parts) != 4 or "/".join(parts[:2]) != PREFIX or parts[3] not in KINDS or not parts[2]:
        raise MalformedError(f"{text!r} is not {PREFIX}/<thing name>/<{'|'.join(KINDS)}>", "topic")
    return Address(parts[2], parts[3])
