"""The retraining as AWS shows it: the state machine's execution that the drift event started, and its training job."""

from collections.abc import Mapping
from typing import Any

import boto3

from simulator.demo.summary import RetrainOutcome

STATE_MACHINE = "edgewright-retrain-weather"
METRIC = "log_loss"
ENDED = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")


class Retraining:
    """Looks, and starts nothing. Clients are made once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """``environment``: where the local cloud is."""
        session = boto3.session.Session(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_DEFAULT_REGION"],
        )
        self._states = session.client("stepfunctions", endpoint_url=environment["AWS_ENDPOINT_URL"])
        self._sagemaker = session.client("sagemaker", endpoint_url=environment["AWS_ENDPOINT_URL"])

    def execution(self) -> Mapping[str, Any] | None:
        """The first execution of the retraining state machine, once there is one."""
        machines = self._states.list_state_machines()["stateMachines"]
        arns = [machine["stateMachineArn"] for machine in machines if machine["name"] == STATE_MACHINE]
        executions = self._states.list_executions(stateMachineArn=arns[0])["executions"] if arns else []
        return self._states.describe_execution(executionArn=executions[-1]["executionArn"]) if executions else None

    def ended(self) -> Mapping[str, Any] | None:
        """The same, once it has ended."""
        execution = self.execution()
        return execution if execution is not None and execution["status"] in ENDED else None

    def outcome(self, version: str) -> RetrainOutcome:
        """What the newest training job made better, by its own metrics on the same held-out stretch."""
        newest = self._sagemaker.list_training_jobs(SortBy="CreationTime", SortOrder="Descending")[
            "TrainingJobSummaries"
        ]
        job = self._sagemaker.describe_training_job(TrainingJobName=newest[0]["TrainingJobName"])
        metrics = {entry["MetricName"]: float(entry["Value"]) for entry in job["FinalMetricDataList"]}
        return RetrainOutcome(
            training_job_arn=job["TrainingJobArn"],
            metric=f"validation:{METRIC}",
            before=metrics[f"incumbent:{METRIC}"],
            after=metrics[f"validation:{METRIC}"],
            version=version,
        )
