"""A fake of the jobs port that ships: jobs are plain objects in a dictionary, and tests mutate them.

It runs nothing. A job goes through the states it was given, one with each look.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.errors import ConflictError, NotFoundError
from cloud.jobs.job import JobKind, JobState

NAME_FIELDS = {JobKind.TRAINING: "TrainingJobName", JobKind.PROCESSING: "ProcessingJobName"}


@dataclass(slots=True)
class MemoryJobs:
    """A :class:`~cloud.jobs.job.Jobs`.

    Attributes:
        requests: what was started, by name.
        states: what each look at a job answers, by name; the last one stays. A started job without states completes.
        logs: lines by name.
    """

    requests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    states: dict[str, list[JobState]] = field(default_factory=dict)
    logs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def start(self, kind: JobKind, request: Mapping[str, Any]) -> str:
        """See the port."""
        name = str(request[NAME_FIELDS[kind]])
        if name in self.requests:
            raise ConflictError(f"{kind} job {name} exists")
        self.requests[name] = request
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:{kind}-job/{name}"
        self.states.setdefault(name, [JobState(name, arn, "Completed", "Completed")])
        return arn

    def state(self, kind: JobKind, name: str) -> JobState:
        """See the port."""
        if name not in self.states:
            raise NotFoundError(f"there is no {kind} job {name}")
        left = self.states[name]
        return left.pop(0) if len(left) > 1 else left[0]

    def last_lines(self, kind: JobKind, name: str, count: int) -> tuple[str, ...]:
        """See the port."""
        del kind
        return self.logs.get(name, ())[-count:]
