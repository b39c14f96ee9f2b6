"""AWS IoT topic rules: what devices publish becomes messages in a queue, under the name that the topic gives the sender.

The failure this exists for: a sender that is believed for what its payload says. What becomes of the messages is
``cloud.fleet.ingest``.
"""

from cloud.aws.session import AwsSession, translated
from cloud.errors import ConflictError
from edge_component.contracts.topics import PREFIX

SQL_VERSION = "2016-03-23"
_SELECTED = (
    "encode(*, 'base64') AS payload_b64, topic(3) AS thing_name, topic(4) AS kind, timestamp() AS received_at_ms"
)
INGEST_SQL = f"SELECT {_SELECTED} FROM '{PREFIX}/+/+'"  # noqa: S608 - IoT's SQL, over constants of ours
"""The thing's name is the topic's, which the IoT policy ties to the connection's certificate."""


class TopicRules:
    """Makes a rule, or brings it up to date."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("iot")

    def ensure_ingest(self, name: str, queue_url: str, dead_url: str, role_arn: str) -> None:
        """Everything that devices publish goes into the queue, with its sender's name.

        What does not get there (the queue is gone, or the role may not) is sent to the dead-letter queue, in AWS's format of
        error actions: Basic Ingest has no other copy, and the device was told that it arrived.
        """
        payload = {
            "sql": INGEST_SQL,
            "awsIotSqlVersion": SQL_VERSION,
            "description": "Edgewright telemetry to the ingest queue",
            "actions": [{"sqs": {"roleArn": role_arn, "queueUrl": queue_url, "useBase64": False}}],
            "errorAction": {"sqs": {"roleArn": role_arn, "queueUrl": dead_url, "useBase64": False}},
            "ruleDisabled": False,
        }
        try:
            with translated(f"creating IoT rule {name}"):
                self._client.create_topic_rule(ruleName=name, topicRulePayload=payload)
        except ConflictError:
            with translated(f"replacing IoT rule {name}"):
                self._client.replace_topic_rule(ruleName=name, topicRulePayload=payload)
