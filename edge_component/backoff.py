"""How long to wait before trying again, as a pure function.

The failure this exists for: a thousand devices whose broker restarts, and who all come back in the same second, at every
second. The wait doubles with each failure in a row and is drawn evenly from the upper half of its interval.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds in seconds: the first wait is at most ``s_min``, no wait is above ``s_max``."""

    s_min: float
    s_max: float

    def wait_s(self, failures_count: int, random: Callable[[], float]) -> float:
        """After so many failures in a row, at least one; ``random`` gives a float in [0, 1)."""
        interval_s = min(self.s_max, self.s_min * 2.0 ** min(max(failures_count, 1) - 1, 62))
        return interval_s * (0.5 + random() / 2)
