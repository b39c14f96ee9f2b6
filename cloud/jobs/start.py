"""Start a job once.

The failure this exists for: a command that is run again after a lost answer and trains a second time. A job's name is
what it is known by, so a job that exists was submitted before and is followed from there; whatever it reads must not be
touched any more (see :func:`was_started`).
"""

from collections.abc import Mapping
from typing import Any

from cloud.errors import ConflictError, NotFoundError
from cloud.jobs.job import JobKind, Jobs


def was_started(jobs: Jobs, kind: JobKind, name: str) -> bool:
    """Whether a job of that name exists, in whatever state."""
    try:
        jobs.state(kind, name)
    except NotFoundError:
        return False
    return True


def start_once(jobs: Jobs, kind: JobKind, name: str, request: Mapping[str, Any]) -> bool:
    """Start the job ``name`` that ``request`` describes; ``False`` if it exists.

    Raises:
        ConflictError: AWS says that something is in use, but no such job exists.
    """
    try:
        jobs.start(kind, request)
    except ConflictError:
        if not was_started(jobs, kind, name):
            raise
        return False
    return True
