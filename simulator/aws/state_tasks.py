"""Task states that reach the local cloud's own services: ``aws-sdk:…`` and ``sagemaker:create…Job`` with ``.sync``.

The failure this exists for: moto runs state machines but knows no SageMaker task, hands datetimes on as they are (which
breaks DescribeExecution later), and does not turn Step Functions' PascalCase into a service's own spelling. What is not
here is refused when a machine is made (:mod:`simulator.aws.step_functions`).

These classes extend moto 5.2.5's interpreter (pinned: its internals), one object for each Task state; an execution
evaluates a state on a thread of its own.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import OperationModel
from botocore.response import StreamingBody
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.state.exec.state_task.credentials import StateCredentials
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceRuntimePart
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_events import (
    StateTaskServiceEvents,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sqs import (
    StateTaskServiceSqs,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

TASK_FAILED = StatesErrorName(StatesErrorNameType.StatesTaskFailed)
Clients = Callable[[str], Any]

SYNC_POLL_S = 0.2
SDK_SERVICES = {"sfn": "stepfunctions", "eventbridge": "events", "cloudwatchlogs": "logs"}
"""Step Functions names services as AWS's SDK for Java does; these differ from boto3's."""
SDK_ERROR_NAMES = {"sagemaker": "SageMaker", "greengrassv2": "GreengrassV2", "dynamodb": "DynamoDb", "s3": "S3"}
MODELLED_SAGEMAKER_ERRORS = frozenset(
    {"ResourceInUse", "ResourceLimitExceeded", "ResourceNotFound", "ConflictException"}
)


@dataclass(frozen=True, slots=True)
class SyncJob:
    """How to wait for one kind of job."""

    name: str
    status: str
    describe: str
    stop: str


SYNC_JOBS: Mapping[str, SyncJob] = {
    "createTrainingJob": SyncJob("TrainingJobName", "TrainingJobStatus", "describe_training_job", "stop_training_job"),
    "createProcessingJob": SyncJob(
        "ProcessingJobName", "ProcessingJobStatus", "describe_processing_job", "stop_processing_job"
    ),
}
"""Actions of the ``sagemaker`` integration that are real, each with and without ``.sync``."""


def sdk_service(api_name: str) -> str:
    """boto3's name of the service in ``aws-sdk:<service>:<action>``."""
    return SDK_SERVICES.get(api_name.lower(), api_name.lower())


def sdk_operation(api_action: str) -> str:
    """The operation's name in botocore's model: ``createJob`` is ``CreateJob``."""
    return api_action[:1].upper() + api_action[1:]


class ServiceTask(StateTaskService):
    """A Task state that calls one operation of one service."""

    def __init__(self, clients: Clients) -> None:
        """One for each Task state of a parsed machine."""
        super().__init__()
        self._clients = clients

    def _get_supported_parameters(self) -> set[str]:
        return set()  # empty: moto drops nothing, and the service judges the request

    def _eval_service_task(
        self,
        env: Environment,
        resource_runtime_part: ResourceRuntimePart,
        normalised_parameters: dict[str, Any],
        state_credentials: StateCredentials,
    ) -> None:
        del resource_runtime_part, state_credentials
        client = self._clients(sdk_service(self.resource.api_name))
        operation = client.meta.service_model.operation_model(sdk_operation(self.resource.api_action))
        env.stack.append(self._perform(env, client, operation, normalised_parameters))

    def _perform(self, env: Environment, client: Any, operation: OperationModel, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - boto3 makes clients at run time
        del env
        if operation.input_shape is not None:
            self._to_boto_request(parameters, operation.input_shape)
        response = getattr(client, xform_name(operation.name))(**parameters)
        response.pop("ResponseMetadata", None)
        if operation.output_shape is not None:
            self._from_boto_response(response, operation.output_shape)
        return state_value(response, iso_time)

    def _failure(self, env: Environment, error: str, cause: str) -> FailureEvent:
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(), resourceType=self._get_sfn_resource_type(), error=error, cause=cause
        )
        return FailureEvent(
            env=env,
            error_name=TASK_FAILED if error == TASK_FAILED.error_name else CustomErrorName(error),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )


class AwsSdkTask(ServiceTask):
    """``arn:aws:states:::aws-sdk:<service>:<action>``: parameters and results in PascalCase, times in ISO 8601."""

    def _get_sfn_resource_type(self) -> str:
        return f"{self.resource.service_name}:{self.resource.api_name}"

    def _from_error(self, env: Environment, ex: Exception) -> FailureEvent:
        if not isinstance(ex, ClientError | BotoCoreError):
            return super()._from_error(env=env, ex=ex)
        service = SDK_ERROR_NAMES.get(self.resource.api_name.lower(), self.resource.api_name.capitalize())
        code, message = error_parts(ex)
        name = code if code.endswith("Exception") else f"{code}Exception"
        return self._failure(env, f"{service}.{name}", f"{message} (Service: {service})")


class SageMakerTask(ServiceTask):
    """``arn:aws:states:::sagemaker:create…Job[.sync]``; with ``.sync`` the result is the description of the ended job.

    A job that does not complete fails the task with ``States.TaskFailed`` and its description, ``FailureReason`` included,
    as the cause. A task that is stopped or out of time stops its job, as AWS does. Times are milliseconds.
    """

    def _get_sfn_resource(self) -> str:
        sync = ".sync" if self.resource.condition else ""
        return f"{self.resource.api_action}{sync}"

    def _perform(self, env: Environment, client: Any, operation: OperationModel, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - boto3 makes clients at run time
        answer = super()._perform(env, client, operation, parameters)
        if not self.resource.condition:
            return answer
        job = SYNC_JOBS[self.resource.api_action]
        name = {job.name: parameters[job.name]}
        while (description := getattr(client, job.describe)(**name))[job.status] in {"InProgress", "Stopping"}:
            if not env.is_running():
                getattr(client, job.stop)(**name)
                return None
            time.sleep(SYNC_POLL_S)
        description.pop("ResponseMetadata", None)
        described = state_value(description, milliseconds)
        if description[job.status] != "Completed":
            raise FailureEventException(self._failure(env, TASK_FAILED.error_name, json.dumps(described)))
        return described

    def _from_error(self, env: Environment, ex: Exception) -> FailureEvent:
        if not isinstance(ex, ClientError | BotoCoreError):
            return super()._from_error(env=env, ex=ex)
        code, message = error_parts(ex)
        name = f"{code.removesuffix('Exception')}Exception" if code in MODELLED_SAGEMAKER_ERRORS else None
        return self._failure(env, f"SageMaker.{name or 'AmazonSageMakerException'}", message)


def tasks_of(clients: Clients) -> Callable[[str], StateTaskService]:
    """What moto's interpreter makes a Task state with, by the service in its resource.

    Raises:
        ValueError: (from what is returned) nothing real answers that service; :func:`unreal` has refused it before.
    """
    made: Mapping[str, Callable[[], StateTaskService]] = {
        "aws-sdk": lambda: AwsSdkTask(clients),
        "sagemaker": lambda: SageMakerTask(clients),
        "sqs": StateTaskServiceSqs,
        "events": StateTaskServiceEvents,
    }

    def make(service_name: str) -> StateTaskService:
        if service_name not in made:
            raise ValueError(f"the {service_name} integration is not real here")
        return made[service_name]()

    return make


def error_parts(error: ClientError | BotoCoreError) -> tuple[str, str]:
    """Code and message of a failed call."""
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Code"]), str(error.response["Error"]["Message"])
    return type(error).__name__, str(error)


def state_value(value: Any, moment: Callable[[datetime], Any]) -> Any:  # noqa: ANN401 - whatever a response holds
    """A response as JSON that may travel between states; ``moment`` says how times are written."""
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Mapping):
        return {name: state_value(member, moment) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [state_value(member, moment) for member in value]
    if isinstance(value, StreamingBody):
        return value.read().decode(errors="replace")
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def iso_time(at: datetime) -> str:
    """As the SDK integrations write times: ``2026-01-31T12:00:00.123Z``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def milliseconds(at: datetime) -> int:
    """As the SageMaker integration writes times: milliseconds since the epoch."""
    return int(at.timestamp() * 1000)
