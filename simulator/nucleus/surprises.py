"""Faults that a device can be told to have; how each is told is the last table of README.md."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Surprises:
    """Plain data, read where the fault happens (``steps.py``, ``deployment.py``).

    Attributes:
        start_delay_s: by component: so long each start of it does nothing yet (a runtime that is slow to listen).
        daemon_dies_after: the deployment daemon is killed once, when the next deployment has finished this phase.
    """

    start_delay_s: dict[str, float] = field(default_factory=dict)
    daemon_dies_after: str | None = None
