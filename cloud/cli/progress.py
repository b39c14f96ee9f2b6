"""Progress bars on standard error, so that results on standard output stay clean."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cloud.cli.output import progress_console
from cloud.publishing.ports import Report


@contextmanager
def shown_progress() -> Iterator[Report]:
    """A bar that lives as long as the block; on anything but a terminal, one line for each new step."""
    if not progress_console.is_terminal:
        yield _LinePerStep()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_console, transient=True) as progress:
        task = progress.add_task("starting", total=1)
        yield lambda what, done_count, step_count: progress.update(
            task, description=what, completed=done_count, total=step_count
        )


class _LinePerStep:
    """Prints what changed, and nothing twice."""

    def __init__(self) -> None:
        self._last = ("", -1, -1)

    def __call__(self, what: str, done_count: int, step_count: int) -> None:
        if (what, done_count, step_count) != self._last:
            self._last = (what, done_count, step_count)
            progress_console.print(f"[{done_count}/{step_count}] {what}", markup=False, highlight=False)
