"""A folder that belongs to one process at a time.

The failure this exists for: the same command in a second shell. It would take over the first one's files and end its
processes as leftovers of an earlier life, and neither would work. The kernel gives the claim up with the process.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.errors import SimulatorError


@contextmanager
def claimed(lock_path: Path, refusal: SimulatorError) -> Iterator[None]:
    """Hold the lock file as long as the block lasts; raises ``refusal`` where another process does."""
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise refusal from error
        yield
