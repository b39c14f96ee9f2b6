"""SQS as the ingest queue: receive, delete, park, and make the two queues.

What SQS moves to the dead-letter queue by itself (a message received ``RECEIVE_COUNT_MAX`` times) is one that crashed
its readers; what :meth:`SqsQueue.park` puts there is malformed and carries its reason in message attributes.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from cloud.aws.session import AwsSession, translated
from cloud.errors import InvalidInputError, NotFoundError, UnavailableError
from cloud.fleet.consumer import QueueMessage
from cloud.fleet.facts import Rejection
from cloud.names import DEAD_SUFFIX

ENTRIES_MAX = 10
"""Messages in one receive or one batch of deletions (AWS SQS quotas)."""

ATTRIBUTE_CHARS_MAX = 1_000
REFUSED_CHARS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What SQS takes in no message: a sentence that repeats a device's word must not keep its message in the queue."""

RECEIVE_COUNT_MAX = 20
VISIBILITY_S = 60
MADE_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
NO_DEAD_QUEUE = "Dead letter target does not exist"
RETENTION_S = 14 * 86_400


class SqsQueue:
    """The ingest queue ``name`` and its dead-letter queue ``<name>-dead``. Thread-safe, as boto3's clients are."""

    def __init__(self, session: AwsSession, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("sqs")
        self._sleep = sleep
        self._name = name
        self._urls: dict[str, str] = {}

    def receive(self, wait_s: int) -> Sequence[QueueMessage]:
        """See :class:`cloud.fleet.consumer.IngestQueue`."""
        with translated(f"reading queue {self._name}"):
            answer = self._client.receive_message(
                QueueUrl=self._url(self._name), MaxNumberOfMessages=ENTRIES_MAX, WaitTimeSeconds=wait_s
            )
        return [QueueMessage(entry["Body"], entry["ReceiptHandle"]) for entry in answer.get("Messages", ())]

    def delete(self, messages: Sequence[QueueMessage]) -> None:
        """See :class:`cloud.fleet.consumer.IngestQueue`."""
        for start in range(0, len(messages), ENTRIES_MAX):
            entries = [
                {"Id": str(index), "ReceiptHandle": message.receipt}
                for index, message in enumerate(messages[start : start + ENTRIES_MAX])
            ]
            with translated(f"deleting from queue {self._name}"):
                answer = self._client.delete_message_batch(QueueUrl=self._url(self._name), Entries=entries)
            if failed := answer.get("Failed"):
                raise UnavailableError(
                    f"{len(failed)} messages of {self._name} could not be deleted: {failed[0].get('Message')}",
                    "They will be delivered again and known as duplicates.",
                )

    def park(self, message: QueueMessage, rejection: Rejection) -> None:
        """See :class:`cloud.fleet.consumer.IngestQueue`."""
        texts = {"code": rejection.code, "reason": rejection.sentence, "thing_name": rejection.thing_name}
        attributes = {
            name: {"DataType": "String", "StringValue": REFUSED_CHARS.sub("\ufffd", text[:ATTRIBUTE_CHARS_MAX])}
            for name, text in texts.items()
            if text
        }
        with translated(f"parking a message in {self._name}{DEAD_SUFFIX}"):
            self._client.send_message(
                QueueUrl=self._url(self._name + DEAD_SUFFIX), MessageBody=message.body, MessageAttributes=attributes
            )

    @property
    def url(self) -> str:
        """Of the ingest queue."""
        return self._url(self._name)

    @property
    def dead_url(self) -> str:
        """Of its dead-letter queue."""
        return self._url(self._name + DEAD_SUFFIX)

    def ensure(self, policy: dict[str, Any]) -> str:
        """Make both queues, or bring their attributes up to date; returns the ingest queue's ARN.

        ``policy`` says who may send, its ``Resource`` still open: it is set to the queue's ARN here.
        """
        dead_arn = self._make(self._name + DEAD_SUFFIX, {})
        redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": str(RECEIVE_COUNT_MAX)})
        arn = self._make(self._name, {"RedrivePolicy": redrive, "VisibilityTimeout": str(VISIBILITY_S)})
        statements = [{**statement, "Resource": arn} for statement in policy["Statement"]]
        self._set(self._name, {"Policy": json.dumps({**policy, "Statement": statements})})
        return arn

    def _make(self, name: str, attributes: dict[str, str]) -> str:
        attributes = {"MessageRetentionPeriod": str(RETENTION_S), **attributes}
        try:
            self._url(name)
        except NotFoundError:
            made = self._once_there(name, lambda: self._client.create_queue(QueueName=name, Attributes=attributes))
            self._urls[name] = str(made["QueueUrl"])
        else:
            self._set(name, attributes)
        found = self._once_there(
            name, lambda: self._client.get_queue_attributes(QueueUrl=self._url(name), AttributeNames=["QueueArn"])
        )
        return str(found["Attributes"]["QueueArn"])

    def _set(self, name: str, attributes: dict[str, str]) -> None:
        self._once_there(
            name, lambda: self._client.set_queue_attributes(QueueUrl=self._url(name), Attributes=attributes)
        )

    def _once_there(self, name: str, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - boto3's answers
        """A queue that was just made is there a second or so later, for those who name it as their dead-letter queue, too."""
        for pause_s in MADE_PAUSES_S:
            try:
                with translated(f"creating queue {name}"):
                    return ask()
            except (NotFoundError, InvalidInputError) as error:
                if isinstance(error, InvalidInputError) and NO_DEAD_QUEUE not in str(error):
                    raise
                self._sleep(pause_s)
        with translated(f"creating queue {name}"):
            return ask()

    def _url(self, name: str) -> str:
        if name not in self._urls:
            with translated(f"looking for queue {name}"):
                self._urls[name] = self._client.get_queue_url(QueueName=name)["QueueUrl"]
        return self._urls[name]
