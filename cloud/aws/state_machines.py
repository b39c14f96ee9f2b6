"""Step Functions: make a state machine, or bring it up to date; executions under way keep the definition they began with.

What a machine does is ``cloud.infrastructure.retrain``. Two set-ups at once may both try to make it; the second is told
of the conflict and may be run again.
"""

import json
from collections.abc import Mapping
from typing import Any

from cloud.aws.session import AwsSession, translated


class StateMachines:
    """Standard state machines by name."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("stepfunctions")

    def ensure(self, name: str, definition: Mapping[str, Any], role_arn: str) -> str:
        """The machine exists afterwards with this definition; returns its ARN. Executions under way keep the old one."""
        arn = self._find(name)
        text = json.dumps(definition)
        if arn is None:
            with translated(f"creating state machine {name}"):
                return str(
                    self._client.create_state_machine(name=name, definition=text, roleArn=role_arn)["stateMachineArn"]
                )
        with translated(f"updating state machine {name}"):
            self._client.update_state_machine(stateMachineArn=arn, definition=text, roleArn=role_arn)
        return arn

    def _find(self, name: str) -> str | None:
        with translated("listing state machines"):
            for page in self._client.get_paginator("list_state_machines").paginate():
                for machine in page["stateMachines"]:
                    if machine["name"] == name:
                        return str(machine["stateMachineArn"])
        return None
