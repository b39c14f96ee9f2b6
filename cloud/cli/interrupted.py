"""Ctrl-C: what goes on without this command, and how to come back to it.

The failure this exists for: "Aborted.", after which nobody knows whether the job runs, the version is half published, or
the ring is being rolled out. What is interrupted here is a program on somebody's machine; what it has begun is in AWS.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from cloud.errors import EdgewrightError

SIGINT_CODE = 130
"""What shells say of a program that Ctrl-C ended."""

COMPLETES = "Run the same command again: it completes what was begun, and does nothing twice."


class InterruptedCommandError(EdgewrightError):
    """Somebody pressed Ctrl-C."""

    code: ClassVar[str] = "interrupted"
    exit_code: ClassVar[int] = SIGINT_CODE


@contextmanager
def interruptible(what: str, remains: str = COMPLETES) -> Iterator[None]:
    """Around what may be interrupted; ``remains`` says what goes on, and what to do about it.

    Raises:
        InterruptedCommandError: instead of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedCommandError(f"{what} was interrupted", remains) from error
