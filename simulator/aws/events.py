"""EventBridge that delivers: events of users and of the local cloud's services, by rule, to SQS, Step Functions and logs.

The failure this exists for: moto's PutEvents answers 500 where a rule has a Step Functions target, sends to disabled
rules, and knows nothing of Input and InputPath. moto keeps buses, rules and targets, and matches patterns; delivery is
ours. A target of another kind, or a schedule, is refused when it is made (501). What cannot be delivered goes to the
target's dead-letter queue, and is logged where there is none.

Events are delivered by one thread, in order, after PutEvents has answered, as AWS does.
"""

import json
import logging
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.core.exceptions import ServiceException
from moto.events.models import EventPattern, EventsBackend, events_backends

from simulator.aws.clients import LocalClients
from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.event import Event
from simulator.aws.event_input import TargetInputError, check_target, target_input
from simulator.aws.operations import Call

logger = logging.getLogger(__name__)

ENTRIES_MAX = 10
ENTRY_BYTES_MAX = 262_144
MOTO_KEEPS = (
    "PutRule", "DescribeRule", "ListRules", "DeleteRule", "EnableRule", "DisableRule", "PutTargets", "RemoveTargets",
    "ListTargetsByRule", "ListRuleNamesByTarget", "CreateEventBus", "DescribeEventBus", "ListEventBuses",
    "DeleteEventBus", "TagResource", "UntagResource", "ListTagsForResource",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one target."""

    rule_arn: str
    target: Mapping[str, Any]
    document: Mapping[str, Any]


class EventBridge:
    """The event buses of the local cloud; an :class:`~simulator.aws.event.EventSink`."""

    def __init__(self, cloud: Cloud, clients: Callable[[str], Any]) -> None:
        """Takes events at once; delivers from :meth:`start` on."""
        self._cloud = cloud
        self._clients = clients
        self._backlog: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="event-bridge", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._worker.start()

    def stop(self) -> None:
        """Deliver what was taken, then end."""
        self._backlog.put(None)
        self._worker.join()

    def emit(self, event: Event) -> None:
        """Take an event of one of the local cloud's own services; an event for a bus that is gone is dropped."""
        try:
            self._take(event, self._cloud.clock(), str(uuid.uuid4()))
        except ServiceException:
            logger.warning("event bus %s does not exist; %s is dropped", event.bus, event.detail_type)

    def put_events(self, call: Call) -> Mapping[str, Any]:
        """PutEvents: each entry is taken or refused by itself."""
        entries = call.parameters["Entries"]
        if len(entries) > ENTRIES_MAX:
            raise AwsError("ValidationException", f"{len(entries)} entries; at most {ENTRIES_MAX} are allowed")
        answers = [self._put(entry) for entry in entries]
        return {"FailedEntryCount": sum("ErrorCode" in answer for answer in answers), "Entries": answers}

    def _put(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        refusal = entry_refusal(entry)
        if refusal is not None:
            return refusal
        bus = str(entry.get("EventBusName") or "default").rpartition("/")[2]
        event = Event(
            entry["Source"], entry["DetailType"], json.loads(entry["Detail"]), tuple(entry.get("Resources") or ()), bus
        )
        event_id = str(uuid.uuid4())
        try:
            self._take(event, entry.get("Time") or self._cloud.clock(), event_id)
        except ServiceException as error:
            raise AwsError("ResourceNotFoundException", f"Event bus {bus} does not exist.") from error
        return {"EventId": event_id}

    def _take(self, event: Event, at: datetime, event_id: str) -> None:
        document = event_document(event, at, event_id, self._cloud)
        for rule in self._backend().describe_event_bus(event.bus).rules.values():
            if rule.state != "DISABLED" and matches(rule.event_pattern, document):
                for target in rule.targets:
                    self._backlog.put(Delivery(rule.arn, target, document))

    def _backend(self) -> EventsBackend:
        return events_backends[self._cloud.account_id][self._cloud.region]

    def _work(self) -> None:
        while (delivery := self._backlog.get()) is not None:
            try:
                self._deliver(delivery)
            except Exception:
                logger.exception("delivery to %s broke", delivery.target.get("Arn"))

    def _deliver(self, delivery: Delivery) -> None:
        try:
            text = target_input(delivery.target, delivery.document, delivery.rule_arn)
            send_to(self._clients, delivery.target, text, self._cloud.clock())
        except (ClientError, BotoCoreError, TargetInputError) as error:
            self._give_up(delivery, error)

    def _give_up(self, delivery: Delivery, error: Exception) -> None:
        dead_letters = (delivery.target.get("DeadLetterConfig") or {}).get("Arn")
        logger.warning(
            "%s does not take an event of %s: %s (%s)", delivery.target["Arn"], delivery.rule_arn, error,
            dead_letters or "no dead-letter queue: dropped",
        )  # fmt: skip
        if dead_letters:
            attributes = {"RULE_ARN": delivery.rule_arn, "TARGET_ARN": delivery.target["Arn"], "ERROR_MESSAGE": error}
            self._clients("sqs").send_message(
                QueueUrl=_queue_url(self._clients, dead_letters),
                MessageBody=json.dumps(delivery.document),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": str(value)} for name, value in attributes.items()
                },
            )


def event_document(event: Event, at: datetime, event_id: str, cloud: Cloud) -> dict[str, Any]:
    """The event as rules match it and targets receive it."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": event.detail_type,
        "source": event.source,
        "account": cloud.account_id,
        "time": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": cloud.region,
        "resources": list(event.resources),
        "detail": dict(event.detail),
    }


def matches(pattern: EventPattern, document: Mapping[str, Any]) -> bool:
    """Whether a rule's pattern covers an event; a rule without a pattern covers none."""
    return bool(pattern.get_pattern()) and bool(pattern.matches_event(dict(document)))


def entry_refusal(entry: Mapping[str, Any]) -> dict[str, str] | None:
    """Why PutEvents does not take an entry, as the entry's own answer; ``None`` where it does."""
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            return _refusal("InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is a required argument.")
    if entry["Source"].startswith("aws."):
        return _refusal("NotAuthorizedForSourceException", f"Not authorized for the source {entry['Source']}.")
    if len(entry["Detail"].encode()) > ENTRY_BYTES_MAX:
        return _refusal("InvalidArgument", f"The entry is larger than {ENTRY_BYTES_MAX} bytes.")
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        return _refusal("MalformedDetail", "Detail is malformed.")
    return None if isinstance(detail, dict) else _refusal("MalformedDetail", "Detail is not a JSON object.")


def _refusal(code: str, message: str) -> dict[str, str]:
    return {"ErrorCode": code, "ErrorMessage": message}


def send_to(clients: Callable[[str], Any], target: Mapping[str, Any], text: str, at: datetime) -> None:
    """Hand the input to the target.

    Raises:
        TargetInputError: a kind that :func:`refuse_unreal_targets` refuses, but a CloudFormation stack brought in.
    """
    service = _service(target["Arn"])
    if service == "sqs":
        group = (target.get("SqsParameters") or {}).get("MessageGroupId")
        members = {"MessageGroupId": group, "MessageDeduplicationId": str(uuid.uuid4())} if group else {}
        clients("sqs").send_message(QueueUrl=_queue_url(clients, target["Arn"]), MessageBody=text, **members)
    elif service == "states":
        clients("stepfunctions").start_execution(stateMachineArn=target["Arn"], input=text)
    elif service == "logs":
        _log(clients("logs"), target["Arn"].split(":")[6], text, at)
    else:
        raise TargetInputError(f"nothing here delivers to {target['Arn']}")


def _log(logs: Any, group: str, text: str, at: datetime) -> None:  # noqa: ANN401 - a boto3 client
    stream = str(uuid.uuid4())
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    at_ms = int(at.timestamp() * 1000)
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": at_ms, "message": text}])


def _queue_url(clients: Callable[[str], Any], arn: str) -> str:
    return str(clients("sqs").get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])


def _service(arn: str) -> str:
    return arn.split(":")[2] if arn.count(":") >= 5 else ""


def refuse_unreal_targets(call: Call) -> None:
    """Before PutTargets.

    Raises:
        NotRealError: a target of a kind that nothing would be delivered to.
        AwsError: a malformed input path or template.
    """
    for target in call.parameters["Targets"]:
        if _service(target["Arn"]) not in {"sqs", "states", "logs"}:
            raise NotRealError(f"EventBridge target {target['Arn']} (there are sqs, states and logs)")
        try:
            check_target(target)
        except TargetInputError as error:
            raise AwsError("ValidationException", f"target {target['Id']}: {error}") from error


def refuse_schedules(call: Call) -> None:
    """Before PutRule.

    Raises:
        NotRealError: the rule has a schedule, which would never fire.
    """
    if call.parameters.get("ScheduleExpression"):
        raise NotRealError("EventBridge rule with ScheduleExpression (use an EventPattern)")


def answer_test_event_pattern(call: Call) -> Mapping[str, Any]:
    """TestEventPattern."""
    return {"Result": matches(EventPattern.load(call.parameters["EventPattern"]), json.loads(call.parameters["Event"]))}


def install(cloud: Cloud) -> None:
    """Deliver events; moto keeps buses, rules and targets."""
    bridge = EventBridge(cloud, LocalClients(cloud))
    cloud.events = bridge
    cloud.operations.trust_moto("events", MOTO_KEEPS)
    cloud.operations.serve("events", {"PutEvents": bridge.put_events, "TestEventPattern": answer_test_event_pattern})
    cloud.operations.before("events", "PutTargets", refuse_unreal_targets)
    cloud.operations.before("events", "PutRule", refuse_schedules)
    cloud.on_start(bridge.start)
    cloud.on_stop(bridge.stop)
