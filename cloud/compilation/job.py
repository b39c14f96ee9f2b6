"""Submit the compilation stage as a SageMaker Processing job and bring back where the compilation lies.

This is the side that asks; what runs inside of the job is stage.py, which imports none of this.
"""

from dataclasses import dataclass

from cloud.compilation.errors import CompilationRefusedError
from cloud.compilation.request import CompilationRun, compilation_request
from cloud.jobs.follow import FollowLimits, OnChange, follow
from cloud.jobs.job import JobFailedError, JobKind, Jobs
from cloud.jobs.start import start_once


@dataclass(frozen=True, slots=True)
class CompilationResult:
    """What a completed job made: ``output_uri`` is the compilation folder's S3 prefix."""

    job_name: str
    job_arn: str
    output_uri: str
    duration_s: float


def submit(run: CompilationRun, jobs: Jobs) -> bool:
    """Start the job; ``False`` if it was started before."""
    return start_once(jobs, JobKind.PROCESSING, run.job_name, compilation_request(run))


def await_result(
    jobs: Jobs,
    job_name: str,
    on_change: OnChange = lambda _: None,
    limits: FollowLimits = FollowLimits(),  # noqa: B008 - frozen
) -> CompilationResult:
    """Follow a compilation job to its end.

    Raises:
        CompilationRefusedError: the stage refused the model; its report's sentence.
        JobFailedError: the job itself went wrong.
        JobUnfinishedError: it goes on.
    """
    try:
        state = follow(jobs, JobKind.PROCESSING, job_name, on_change, limits)
    except JobFailedError as error:
        if error.state.message:
            raise CompilationRefusedError(
                error.state.message, f"The whole report is {error.state.output_uri.rstrip('/')}/report.txt."
            ) from error
        raise
    return CompilationResult(state.name, state.arn, state.output_uri, state.duration_s)
