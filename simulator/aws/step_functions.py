"""Step Functions that execute: moto's interpreter, with our tasks, and answers that do not break on a result.

The failure this exists for: a retraining machine that is accepted and then fails, or worse, succeeds without having
trained. A definition with a task that nothing real answers is refused when it is made (501), naming the state. Executions
without a name get one (moto calls them all ``None`` and refuses the second).

It changes three names inside moto 5.2.5 (pinned) when it is installed: who makes tasks, where they call, and how a
start time is written. One local cloud runs in a process, so nobody else sees it.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from moto.core.config import default_user_config
from moto.core.exceptions import JsonRESTError
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend.execution import Execution
from moto.stepfunctions.parser.models import StepFunctionsParserBackend, stepfunctions_parser_backends

from simulator.aws.clients import LocalClients
from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.operations import Call, Operations
from simulator.aws.state_tasks import SYNC_JOBS, iso_time, sdk_operation, sdk_service, tasks_of

MOTO_KEEPS = (
    "CreateStateMachine", "DescribeStateMachine", "UpdateStateMachine", "DeleteStateMachine", "ListStateMachines",
    "ListExecutions", "GetExecutionHistory", "DescribeStateMachineForExecution", "StopExecution",
    "TagResource", "UntagResource", "ListTagsForResource",
)  # fmt: skip
OPTIMISED = frozenset({"sqs:sendMessage", "events:putEvents"})
"""Optimised integrations of moto's that were tried."""
RESOURCE = "arn:aws:states:::"
OUTPUT_SETTLES_S = 0.05


class StateMachines:
    """The operations that are ours."""

    def __init__(self, cloud: Cloud) -> None:
        """The cloud's register decides which tasks are real."""
        self._cloud = cloud

    def check(self, call: Call) -> None:
        """Before CreateStateMachine and UpdateStateMachine.

        Raises:
            NotRealError: an express machine, or states that nothing real would perform.
        """
        if call.parameters.get("type") not in {None, "STANDARD"}:
            raise NotRealError("Step Functions machine of type EXPRESS")
        try:
            definition = json.loads(call.parameters.get("definition") or "{}")
        except ValueError as error:
            raise AwsError("InvalidDefinition", f"the definition is not JSON: {error}") from error
        refused = sorted(unreal_tasks(definition, self._cloud.operations))
        if refused:
            raise NotRealError("Step Functions task " + ", ".join(refused))

    def start_execution(self, call: Call) -> Mapping[str, Any]:
        """StartExecution; a name is made up where none is given, as AWS does."""
        given = call.parameters
        name = given.get("name") or str(uuid.uuid4())
        execution = self._asked(
            lambda backend: backend.start_execution(given["stateMachineArn"], name, given.get("input") or "{}")
        )
        return {"executionArn": execution.execution_arn, "startDate": execution.start_date}

    def describe_execution(self, call: Call) -> Mapping[str, Any]:
        """DescribeExecution."""
        execution = self._asked(lambda backend: backend.describe_execution(call.parameters["executionArn"]))
        status = execution.status
        if status == "SUCCEEDED" and execution.output is None:
            time.sleep(OUTPUT_SETTLES_S)  # moto sets the status a moment before the output
        answer = {
            "executionArn": execution.execution_arn,
            "stateMachineArn": execution.state_machine_arn,
            "name": execution.name,
            "status": status,
            "startDate": execution.start_date,
            "stopDate": execution.stop_date,
            "input": execution.execution_input,
            "output": to_json_str(execution.output) if status == "SUCCEEDED" else None,
            "error": execution.error,
            "cause": execution.cause,
        }
        return {name: value for name, value in answer.items() if value is not None}

    def shutdown(self) -> None:
        """Abort what runs, so that no task goes on after the cloud."""
        backend = stepfunctions_parser_backends[self._cloud.account_id][self._cloud.region]
        for machine in backend.state_machines:
            for execution in machine.executions:
                if execution.status == "RUNNING" and execution.exec_worker.env is not None:
                    execution.stop(stop_date=datetime.now(UTC), error="LocalCloudStopped", cause="")

    def _asked(self, question: Callable[[StepFunctionsParserBackend], Any]) -> Any:  # noqa: ANN401 - moto has no types
        backend = stepfunctions_parser_backends[self._cloud.account_id][self._cloud.region]
        try:
            return question(backend)
        except JsonRESTError as error:
            raise AwsError(error.error_type, error.message) from error


def unreal_tasks(definition: Any, operations: Operations) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Each Task state, at any depth, that nothing real would perform: its resource, and why."""
    if isinstance(definition, list):
        for member in definition:
            yield from unreal_tasks(member, operations)
    elif isinstance(definition, dict):
        if definition.get("Type") == "Task" and isinstance(definition.get("Resource"), str):
            reason = why_unreal(definition["Resource"], operations)
            if reason:
                yield f"{definition['Resource']} ({reason})"
        for member in definition.values():
            yield from unreal_tasks(member, operations)


def why_unreal(resource: str, operations: Operations) -> str | None:
    """Why nothing real performs a Task's resource; ``None`` if something does."""
    action, _, condition = resource.removeprefix(RESOURCE).partition(".")
    service, _, rest = action.partition(":")
    if not resource.startswith(RESOURCE):
        return "only arn:aws:states::: integrations are real"
    if service == "sagemaker":
        return None if rest in SYNC_JOBS and condition in {"", "sync"} else f"there are {', '.join(SYNC_JOBS)}"
    if condition:
        return f".{condition} is real for sagemaker jobs only"
    if service == "aws-sdk":
        return _why_unreal_call(*rest.partition(":")[::2], operations)
    return None if action in OPTIMISED else f"there are sagemaker, aws-sdk, {', '.join(sorted(OPTIMISED))}"


def _why_unreal_call(api_name: str, api_action: str, operations: Operations) -> str | None:
    service, operation = sdk_service(api_name), sdk_operation(api_action)
    if service not in botocore.session.get_session().get_available_services():
        return f"no AWS service {api_name}"
    return None if operations.source(service, operation) else f"{service}:{operation} is not real"


def install(cloud: Cloud) -> None:
    """Execute state machines; moto keeps them and interprets their language."""
    machines = StateMachines(cloud)
    cloud.operations.trust_moto("stepfunctions", MOTO_KEEPS)
    cloud.operations.serve(
        "stepfunctions",
        {"StartExecution": machines.start_execution, "DescribeExecution": machines.describe_execution},
    )
    for name in ("CreateStateMachine", "UpdateStateMachine"):
        cloud.operations.before("stepfunctions", name, machines.check)
    _extend_moto(cloud)
    cloud.on_stop(machines.shutdown)


def _extend_moto(cloud: Cloud) -> None:
    # A failed execution is an answer, not a fault of the local cloud; moto logs the whole parsed state for each.
    logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)
    default_user_config["stepfunctions"]["execute_state_machine"] = True
    state_task_factory.state_task_service_for = tasks_of(LocalClients(cloud))
    boto_client.moto_server_port = lambda: urlsplit(cloud.url).port
    if not getattr(Execution.get_start_execution_details, "writes_text", False):
        Execution.get_start_execution_details = _with_start_time_as_text(Execution.get_start_execution_details)


def _with_start_time_as_text(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``$$.Execution.StartTime`` is a text in the language; moto puts a datetime there, which no JSON can hold."""

    def details(execution: Any) -> Any:  # noqa: ANN401 - moto has no types
        found = original(execution)
        found.start_time = iso_time(found.start_time)
        return found

    details.writes_text = True  # type: ignore[attr-defined]
    return details
