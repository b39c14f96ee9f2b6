"""Topic rules that run: messages on the bus, by topic filter or by Basic Ingest, go through SQL into actions.

The failure this exists for: moto stores a rule and never executes it, so telemetry that "has a rule" goes nowhere. Here
a rule that cannot be executed is refused when it is made (501, naming the piece); a failed action goes to the rule's
error action in AWS's format, and is logged where there is none.

moto keeps the rules themselves (Get, List, Enable …). Messages are taken off the bus at once and worked off by one
thread in order; where it falls behind, the bus has to wait, so that nothing is dropped.
"""

import base64
import json
import logging
import queue
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from werkzeug.wrappers import Response

from simulator.aws.clients import LocalClients
from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.iot_actions import Action, Destinations, build_action
from simulator.aws.iot_sql import Incoming, SqlError, SqlNotRealError, Statement
from simulator.aws.iot_sql_parser import parse
from simulator.aws.operations import Call
from simulator.aws.queues import LocalQueues
from simulator.errors import SimulatorError

logger = logging.getLogger(__name__)

BASIC_INGEST = "$aws/rules/"
BACKLOG_MESSAGES_MAX = 100_000
MOTO_KEEPS = (
    "CreateTopicRule",
    "ReplaceTopicRule",
    "GetTopicRule",
    "ListTopicRules",
    "DeleteTopicRule",
    "EnableTopicRule",
    "DisableTopicRule",
)
FAILURES = (BotoCoreError, ClientError, SimulatorError, UnicodeDecodeError)
"""What an action may raise; anything else is a bug and is logged as one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ready to run."""

    name: str
    statement: Statement
    actions: tuple[Action, ...]
    error_action: Action | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class ActionFailure:
    """One action that did not do its work."""

    action: str
    resource: str
    message: str


def compile_rule(name: str, payload: Mapping[str, Any], to: Destinations) -> Rule:
    """A rule out of the ``topicRulePayload`` of CreateTopicRule.

    Raises:
        SqlNotRealError: a piece of it is not real here.
        SqlError: its SQL is malformed.
    """
    version = payload.get("awsIotSqlVersion")
    if version not in {None, "2016-03-23"}:
        raise SqlNotRealError(f"awsIotSqlVersion {version!r} (there is 2016-03-23)")
    error_action = payload.get("errorAction")
    return Rule(
        name=name,
        statement=parse(payload["sql"]),
        actions=tuple(build_action(action, to) for action in payload["actions"]),
        error_action=None if error_action is None else build_action(error_action, to),
        enabled=not payload.get("ruleDisabled", False),
    )


def run_rule(rule: Rule, message: Incoming) -> Sequence[ActionFailure]:
    """Evaluate one rule for one message and perform its actions; the error action runs once if any failed."""
    payload = rule.statement.evaluate(message)
    if payload is None:
        return ()
    failures = [failure for action in rule.actions if (failure := _attempt(action, message, payload)) is not None]
    if failures and rule.error_action is not None:
        report = _attempt(rule.error_action, message, error_report(rule, message, failures))
        failures.extend([report] if report else [])
    return failures


def error_report(rule: Rule, message: Incoming, failures: Sequence[ActionFailure]) -> bytes:
    """The error action's payload, in AWS's format (IoT developer guide, "Error handling (error action)")."""
    return json.dumps(
        {
            "ruleName": rule.name,
            "topic": message.topic,
            "cloudwatchTraceId": str(uuid.uuid4()),
            "clientId": "N/A",
            "base64OriginalPayload": base64.b64encode(message.payload).decode(),
            "failures": [
                {"failedAction": failure.action, "failedResource": failure.resource, "errorMessage": failure.message}
                for failure in failures
            ],
        }
    ).encode()


def _attempt(action: Action, message: Incoming, payload: bytes) -> ActionFailure | None:
    try:
        action.perform(message, payload)
    except FAILURES as error:
        return ActionFailure(action.name, action.resource, f"{type(error).__name__}: {error}")
    return None


class RulesEngine:
    """All rules of the local cloud, fed by the bus."""

    def __init__(self, cloud: Cloud, to: Destinations) -> None:
        """Listens for Basic Ingest at once, so that nothing which waited on the broker is missed; works from :meth:`start`."""
        self._cloud = cloud
        self._to = to
        self._rules: dict[str, Rule] = {}
        self._filters: set[str] = set()
        self._lock = threading.Lock()
        self._backlog: queue.Queue[tuple[Rule, Incoming] | None] = queue.Queue(BACKLOG_MESSAGES_MAX)
        self._worker = threading.Thread(target=self._work, name="iot-rules", daemon=True)
        cloud.bus.subscribe(f"{BASIC_INGEST}#", self._ingest)

    def start(self) -> None:
        """Begin to work."""
        self._worker.start()

    def stop(self) -> None:
        """Work off what was received, then end."""
        self._backlog.put(None)
        self._worker.join()

    def check(self, call: Call) -> None:
        """Refuse a rule that would not run.

        Raises:
            NotRealError: a piece of it is not real here.
            AwsError: ``SqlParseException``.
        """
        try:
            self._compile(call)
        except SqlNotRealError as error:
            raise NotRealError(str(error)) from error
        except SqlError as error:
            raise AwsError("SqlParseException", str(error)) from error

    def keep(self, call: Call, response: Response) -> None:
        """Run a rule that was made or replaced."""
        del response
        rule = self._compile(call)
        topic_filter = rule.statement.topic_filter
        with self._lock:
            self._rules[rule.name] = rule
            is_new = topic_filter is not None and topic_filter not in self._filters
            self._filters.update([topic_filter] if topic_filter else [])
        if topic_filter is not None and is_new:
            self._cloud.bus.subscribe(topic_filter, lambda topic, payload: self._route(topic_filter, topic, payload))

    def forget(self, call: Call, response: Response) -> None:
        """Stop running a rule that was deleted."""
        del response
        with self._lock:
            self._rules.pop(call.parameters["ruleName"], None)

    def switch(self, call: Call, response: Response) -> None:
        """Enable or disable a rule."""
        del response
        with self._lock:
            name = call.parameters["ruleName"]
            if name in self._rules:
                self._rules[name] = replace(self._rules[name], enabled=call.operation == "EnableTopicRule")

    def _compile(self, call: Call) -> Rule:
        return compile_rule(call.parameters["ruleName"], call.parameters["topicRulePayload"], self._to)

    def _ingest(self, topic: str, payload: bytes) -> None:
        name, _, rest = topic.removeprefix(BASIC_INGEST).partition("/")
        with self._lock:
            rule = self._rules.get(name)
        if rule is None:
            logger.warning("a message for rule %r, which does not exist, is dropped, as AWS does", name)
        else:
            self._enqueue([rule], rest, payload)

    def _route(self, topic_filter: str, topic: str, payload: bytes) -> None:
        with self._lock:
            wanted = [rule for rule in self._rules.values() if rule.statement.topic_filter == topic_filter]
        self._enqueue(wanted, topic, payload)

    def _enqueue(self, rules: Sequence[Rule], topic: str, payload: bytes) -> None:
        message = Incoming(topic, payload, int(self._cloud.clock().timestamp() * 1000))
        for rule in rules:
            if rule.enabled:
                self._backlog.put((rule, message))

    def _work(self) -> None:
        while (work := self._backlog.get()) is not None:
            rule, message = work
            try:
                for failure in run_rule(rule, message):
                    logger.warning(
                        "rule %s: %s on %s: %s", rule.name, failure.action, failure.resource, failure.message
                    )
            except Exception:
                logger.exception("rule %s broke on a message to %s", rule.name, message.topic)


def install(cloud: Cloud) -> None:
    """Execute topic rules; moto keeps them."""
    engine = RulesEngine(cloud, Destinations(LocalClients(cloud), LocalQueues(cloud), cloud.bus))
    register = cloud.operations
    register.trust_moto("iot", MOTO_KEEPS)
    for name in ("CreateTopicRule", "ReplaceTopicRule"):
        register.before("iot", name, engine.check)
        register.after("iot", name, engine.keep)
    register.after("iot", "DeleteTopicRule", engine.forget)
    register.after("iot", "EnableTopicRule", engine.switch)
    register.after("iot", "DisableTopicRule", engine.switch)
    cloud.on_start(engine.start)
    cloud.on_stop(engine.stop)
