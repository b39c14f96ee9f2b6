"""What a topic rule does with a message: SQS, S3 and republish; every other action is refused when the rule is made.

Not the SQL (:mod:`simulator.aws.iot_sql`), nor the engine that runs rules (:mod:`simulator.aws.iot_rules`). Stateless.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from simulator.aws.bus import MessageBus
from simulator.aws.iot_sql import Incoming, SqlNotRealError
from simulator.aws.iot_sql_parser import parse_template
from simulator.aws.queues import Queues

Clients = Callable[[str], Any]
"""From a service's name to its boto3 client."""


class Action(Protocol):
    """One action of a rule."""

    @property
    def name(self) -> str:
        """As AWS names it in an error message, such as ``SqsAction``."""

    @property
    def resource(self) -> str:
        """What it writes to."""

    def perform(self, message: Incoming, payload: bytes) -> None:
        """Do it; ``payload`` is the statement's result. Whatever it raises is a failure of this action."""


@dataclass(frozen=True, slots=True)
class SqsAction:
    """Send the payload as a message's body."""

    queues: Queues
    resource: str
    use_base64: bool
    name: str = "SqsAction"

    def perform(self, message: Incoming, payload: bytes) -> None:
        """Send; a payload that is no UTF-8 text is an error unless ``use_base64``, since SQS carries text."""
        del message
        body = base64.b64encode(payload) if self.use_base64 else payload
        self.queues.send(self.resource, body.decode())


@dataclass(frozen=True, slots=True)
class S3Action:
    """Write the payload as an object; the key is a substitution template."""

    clients: Clients
    resource: str
    key: Callable[[Incoming], str]
    name: str = "S3Action"

    def perform(self, message: Incoming, payload: bytes) -> None:
        """Write, whatever was there."""
        self.clients("s3").put_object(Bucket=self.resource, Key=self.key(message), Body=payload)


@dataclass(frozen=True, slots=True)
class RepublishAction:
    """Publish the payload to another topic, a substitution template."""

    bus: MessageBus
    resource: str
    topic: Callable[[Incoming], str]
    name: str = "RepublishAction"

    def perform(self, message: Incoming, payload: bytes) -> None:
        """Publish."""
        self.bus.publish(self.topic(message), payload)


@dataclass(frozen=True, slots=True)
class Destinations:
    """What actions write to."""

    clients: Clients
    queues: Queues
    bus: MessageBus


def build_action(document: Mapping[str, Any], to: Destinations) -> Action:
    """An action out of CreateTopicRule's request.

    Raises:
        SqlNotRealError: the kind of action, or a member of it, is not real here.
        SqlError: its template is malformed.
    """
    chosen = [(kind, members) for kind, members in document.items() if members is not None]
    if len(chosen) != 1:
        raise SqlNotRealError(f"an action with {len(chosen)} kinds")
    ((kind, members),) = chosen
    if kind == "sqs":
        return SqsAction(to.queues, members["queueUrl"], bool(members.get("useBase64", False)))
    if kind == "s3":
        return S3Action(to.clients, members["bucketName"], parse_template(members["key"]))
    if kind == "republish":
        topic = members["topic"].replace("$$", "$")  # AWS writes $$aws/… so that it is not read as a template
        return RepublishAction(to.bus, topic, parse_template(topic))
    raise SqlNotRealError(f"topic rule action {kind!r} (there are sqs, s3 and republish)")
