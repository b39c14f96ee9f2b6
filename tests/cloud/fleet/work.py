"""What a query costs, counted in instructions of SQLite's virtual machine: the same on a busy machine as on a quiet one."""

from collections.abc import Callable

from cloud.fleet.database import Database

STEPS = 1_000


def work_of(database: Database, read: Callable[[], object]) -> int:
    """How many thousand instructions of SQLite's virtual machine something takes: work, not time."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with database.read() as connection:  # the next to read is lent the same
        connection.set_progress_handler(step, STEPS)
    read()
    with database.read() as connection:
        connection.set_progress_handler(None, STEPS)
    return steps
