"""A job while it is followed: its stages on standard error, a spinner on a terminal, else one line for each stage.

It asks for nothing itself: whoever follows the job (``cloud.jobs.follow``) says when its stage has changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cloud.cli.interrupted import interruptible
from cloud.cli.output import OutputFormat, print_fields, progress_console
from cloud.errors import UnavailableError
from cloud.jobs.follow import OnChange
from cloud.jobs.job import JobKind, JobState

STOPPING = {
    JobKind.TRAINING: "aws sagemaker stop-training-job --training-job-name",
    JobKind.PROCESSING: "aws sagemaker stop-processing-job --processing-job-name",
}


@contextmanager
def shown_job(what: str, kind: JobKind, name: str) -> Iterator[OnChange]:
    """Show a job's stages as long as the block lives.

    Raises:
        InterruptedCommandError: Ctrl-C, which ends the following alone.
    """
    with interruptible(what, f"The job goes on: --name {name} follows it again, {STOPPING[kind]} {name} ends it."):
        if not progress_console.is_terminal:
            yield lambda state: progress_console.print(_line(what, state), markup=False, highlight=False)
            return
        with progress_console.status(what) as status:
            yield lambda state: status.update(_line(what, state))


@contextmanager
def submitting(name: str) -> Iterator[None]:
    """Around a submission: where nobody knows whether the job was started, the name is what must not be lost.

    Raises:
        UnavailableError, InterruptedCommandError: with the name under which running the command again starts no second job.
    """
    remedy = f"Perhaps it was started. Run the command again with --name {name}: that never starts it twice."
    with interruptible(f"submitting {name}", remedy):
        try:
            yield
        except UnavailableError as error:
            raise UnavailableError(str(error), remedy) from error


def print_followed(name: str) -> None:
    """A job's name is used once: whoever asks for another job under it gets the old one's result, and should know."""
    progress_console.print(f"[dim]{name} exists: it is followed, and nothing was submitted.[/]", highlight=False)


def print_submitted(state: JobState, output: OutputFormat) -> None:
    """The result of ``--no-wait``: enough to follow the job by."""
    print_fields({"job_name": state.name, "job_arn": state.arn, "status": state.status}, output)


def _line(what: str, state: JobState) -> str:
    return f"{what} {state.name}: {state.stage}"
