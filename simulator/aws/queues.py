"""Messages into SQS queues without a request for each.

The failure this exists for: a fleet's telemetry that crawls. A SendMessage through HTTP costs the local cloud about 8 ms,
most of it moto's routing and its count of the whole queue; a rule that thousands of devices publish to cannot afford it.
This puts the message into moto's queue directly, with the same checks. Everybody else uses boto3.

Thread-safe, as moto's queues are.
"""

from typing import Protocol

from moto.core.exceptions import ServiceException
from moto.sqs.models import sqs_backends

from simulator.aws.cloud import Cloud
from simulator.errors import SimulatorError


class QueueError(SimulatorError):
    """The queue is not there, or does not take the message."""


class Queues(Protocol):
    """Where rules put messages."""

    def send(self, queue_url: str, body: str) -> None:
        """Append one message.

        Raises:
            QueueError: it was not taken.
        """


class LocalQueues:
    """moto's queues."""

    def __init__(self, cloud: Cloud) -> None:
        """Those of the cloud's own account and region."""
        self._cloud = cloud

    def send(self, queue_url: str, body: str) -> None:
        """See the port."""
        try:
            backend = sqs_backends[self._cloud.account_id][self._cloud.region]
            backend.send_message(queue_name=queue_url.rpartition("/")[2], message_body=body)
        except ServiceException as error:
            raise QueueError(f"{queue_url}: {error}") from error
