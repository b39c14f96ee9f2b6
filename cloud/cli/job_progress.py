"""A job's stages on standard error while it is followed: a spinner on a terminal, else one line for each stage."""

from collections.abc import Iterator
from contextlib import contextmanager

from cloud.cli.output import progress_console
from cloud.jobs.follow import OnChange
from cloud.jobs.job import JobState


@contextmanager
def shown_job(what: str) -> Iterator[OnChange]:
    """Show a job's stages as long as the block lives."""
    if not progress_console.is_terminal:
        yield lambda state: progress_console.print(_line(what, state), markup=False, highlight=False)
        return
    with progress_console.status(what) as status:
        yield lambda state: status.update(_line(what, state))


def _line(what: str, state: JobState) -> str:
    return f"{what} {state.name}: {state.stage}"
