"""Judge a model on probation by how it has served so far. Pure.

The failure this exists for: a model that answers its golden samples and then fails what the world asks. Failures count
only when they are the model's (a run that failed, an answer of the wrong form, a run stopped by a generous deadline),
never when the caller's input was wrong.
"""

from enum import Enum

from edge_component.config import RuntimeConfig
from edge_component.inference.router import Totals


class Verdict(Enum):
    """What becomes of the candidate."""

    WATCH = "watch"
    CONFIRM = "confirm"
    DOUBT = "doubt"


def judge(totals: Totals, elapsed_s: float, config: RuntimeConfig) -> Verdict:
    """Doubt at once when the share of failures is beyond its bound; confirm when time is up; watch until then."""
    asked_count = totals.answered_count + totals.failed_count
    enough = asked_count >= max(config.probation_requests_min, 1)
    if enough and totals.failed_count > config.probation_failed_ratio_max * asked_count:
        return Verdict.DOUBT
    return Verdict.CONFIRM if elapsed_s >= config.probation_s else Verdict.WATCH


def reason(totals: Totals) -> str:
    """One sentence for the event of a revert."""
    return f"it failed {totals.failed_count} of {totals.answered_count + totals.failed_count} requests after the switch"
