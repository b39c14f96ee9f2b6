"""Step Functions: make a state machine, or bring it up to date, and see what became of its executions.

What a machine does is ``cloud.infrastructure.retrain``. Two set-ups at once may both try to make it; the second is told
of the conflict and may be run again.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloud.aws.session import AwsSession, translated
from cloud.drift.attempts import Execution
from cloud.errors import NotFoundError
from cloud.names import retraining_machine

EXECUTION_COUNT_MAX = 1_000
"""Executions of one machine looked at in one go, the newest first."""


class StateMachines:
    """Standard state machines by name."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("stepfunctions")

    def ensure(self, name: str, definition: Mapping[str, Any], role_arn: str) -> str:
        """The machine exists afterwards with this definition; returns its ARN. Executions under way keep the old one."""
        arn = self.find(name)
        text = json.dumps(definition)
        if arn is None:
            with translated(f"creating state machine {name}"):
                return str(
                    self._client.create_state_machine(name=name, definition=text, roleArn=role_arn)["stateMachineArn"]
                )
        with translated(f"updating state machine {name}"):
            self._client.update_state_machine(stateMachineArn=arn, definition=text, roleArn=role_arn)
        return arn

    def find(self, name: str) -> str | None:
        """A machine's ARN, or ``None``."""
        with translated("listing state machines"):
            for page in self._client.get_paginator("list_state_machines").paginate():
                for machine in page["stateMachines"]:
                    if machine["name"] == name:
                        return str(machine["stateMachineArn"])
        return None


class RetrainingExecutions:
    """A :class:`~cloud.drift.ports.ExecutionSource`. One thread.

    ListExecutions says neither what an execution was started with nor why it failed, so each is described once while it
    runs and once when it has ended.
    """

    def __init__(self, session: AwsSession, state_machine: str) -> None:
        """Nothing is contacted until a method is called; ``state_machine`` is the settings' name."""
        self._client = session.client("stepfunctions")
        self._machines = StateMachines(session)
        self._state_machine = state_machine
        self._arns: dict[str, str] = {}
        self._described: dict[str, dict[str, Execution]] = {}

    def executions(self, model_name: str, since: datetime) -> tuple[Execution, ...]:
        """See the port."""
        arn = self._machine(model_name)
        if arn is None:
            return ()
        try:
            listed = self._listed(arn, since)
        except NotFoundError:  # removed since; perhaps it is made again
            self._arns.pop(model_name, None)
            return ()
        known = self._described.get(model_name, {})
        self._described[model_name] = {
            entry["executionArn"]: self._up_to_date(entry, known.get(entry["executionArn"])) for entry in listed
        }
        return tuple(self._described[model_name].values())

    def _machine(self, model_name: str) -> str | None:
        if model_name not in self._arns:
            found = self._machines.find(retraining_machine(self._state_machine, model_name))
            if found is None:
                return None
            self._arns[model_name] = found
        return self._arns[model_name]

    def _listed(self, arn: str, since: datetime) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        with translated(f"listing the executions of {arn}"):
            for page in self._client.get_paginator("list_executions").paginate(stateMachineArn=arn):
                found += [entry for entry in page["executions"] if entry["startDate"] >= since]
                if len(found) >= EXECUTION_COUNT_MAX or any(one["startDate"] < since for one in page["executions"]):
                    break
        return found[:EXECUTION_COUNT_MAX]

    def _up_to_date(self, entry: Mapping[str, Any], known: Execution | None) -> Execution:
        if known is not None and known.status == entry["status"]:
            return known
        arn = entry["executionArn"]
        with translated(f"reading execution {arn}"):
            described = self._client.describe_execution(executionArn=arn)
        return Execution(
            arn=arn,
            incident_id=_incident_id(described.get("input") or ""),
            status=described["status"],
            started_at=described["startDate"],
            error=described.get("error") or "",
            cause=described.get("cause") or "",
        )


def _incident_id(text: str) -> str:
    """Of the event that an execution was started with; empty if it was started with something else."""
    try:
        return str(json.loads(text)["detail"]["incident_id"])
    except (ValueError, LookupError, TypeError):
        return ""
