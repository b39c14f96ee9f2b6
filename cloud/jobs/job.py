"""A SageMaker job as a value, and the port that starts and reads jobs.

Training and processing jobs differ in their requests and in little else that matters here; so there is one state for
both. What a job needs is rendered elsewhere (training/request.py, compilation/request.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from cloud.errors import EdgewrightError, UnavailableError
from edge_component.contracts.codec import NOTHING

NAME_CHARS_MAX = 63
NAME_PATTERN = re.compile(r"(?=.{1,63}$)[a-zA-Z0-9](-*[a-zA-Z0-9])*")
"""SageMaker's limit and pattern for job names (CreateTrainingJob, CreateProcessingJob)."""


class JobKind(StrEnum):
    """The two kinds of jobs that are started here."""

    TRAINING = "training"
    PROCESSING = "processing"


@dataclass(frozen=True, slots=True)
class JobState:
    """What SageMaker says about a job.

    Attributes:
        name, arn: of the job.
        status: ``InProgress``, ``Completed``, ``Failed``, ``Stopping`` or ``Stopped``.
        stage: a training job's secondary status, such as ``Downloading``; else the status.
        reason: why it failed, by SageMaker; empty otherwise.
        message: a processing job's exit message; empty otherwise.
        output_uri: a training job's artifact, or a processing job's first output; empty while there is none.
        code_uri: S3 prefix of a training job's channel ``code``; empty where it has none.
        metrics: a training job's final metrics.
        duration_s: from start to end, or 0 while it runs.
    """

    name: str
    arn: str
    status: str
    stage: str
    reason: str = ""
    message: str = ""
    output_uri: str = ""
    code_uri: str = ""
    metrics: Mapping[str, float] = NOTHING
    duration_s: float = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in {"Completed", "Failed", "Stopped"}


class Jobs(Protocol):
    """Starts and reads jobs. Errors are ``cloud.errors``' own."""

    def start(self, kind: JobKind, request: Mapping[str, Any]) -> str:
        """Start a job; its ARN.

        Raises:
            ConflictError: a job of that name exists.
        """

    def state(self, kind: JobKind, name: str) -> JobState:
        """Read a job.

        Raises:
            NotFoundError: there is none of that name.
        """

    def last_lines(self, kind: JobKind, name: str, count: int) -> tuple[str, ...]:
        """The last lines of a job's log; empty where there is no log (yet)."""


class JobFailedError(EdgewrightError):
    """A job ended, and not by completing; the sentence holds SageMaker's reason and the log's last lines."""

    code: ClassVar[str] = "job-failed"

    def __init__(self, message: str, state: JobState) -> None:
        """Keep the job's state beside the sentence."""
        super().__init__(
            message, "Correct what it names, then run the command again without --name: a job's name is used once."
        )
        self.state = state


class JobUnfinishedError(UnavailableError):
    """A job goes on for longer than it was to be followed."""

    code: ClassVar[str] = "job-unfinished"


def job_name(prefix: str, at: datetime, token: str) -> str:
    """A name that no other job has: prefix, UTC time and a random token, within SageMaker's limit."""
    suffix = f"-{at:%Y%m%d-%H%M%S}-{token}"
    return prefix[: NAME_CHARS_MAX - len(suffix)].rstrip("-") + suffix
