"""Judge a model on probation by how it has served so far. Pure.

The failures this exists for: a model that answers its golden samples and then fails what the world asks, and one that
answers rightly and too late for the loop that waits for it. Failures count only when they are the model's (a run that
failed, an answer of the wrong form, a run stopped by a generous deadline), never when the caller's input was wrong.
Latency is the median over live requests, against the operator's bound and against the version before, which was timed on
this device just before the switch; medians, since a single scheduling delay is not the model's.
"""

from dataclasses import dataclass
from enum import Enum

from edge_component.activation.live import UNTIMED, Latency
from edge_component.config import RuntimeConfig
from edge_component.errors import ActivationError, ProbationFailedError, ProbationSlowError
from edge_component.inference.router import Totals


class Verdict(Enum):
    """What becomes of the candidate."""

    WATCH = "watch"
    CONFIRM = "confirm"
    DOUBT = "doubt"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known after ``elapsed_s`` of probation; ``earlier`` is of the version before, as far as it was timed."""

    elapsed_s: float
    totals: Totals
    latency: Latency = UNTIMED
    earlier: Latency = UNTIMED


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict; with DOUBT, why."""

    verdict: Verdict
    error: ActivationError | None = None


def judge(evidence: Evidence, config: RuntimeConfig) -> Judgement:
    """Doubt at once when a bound is broken; confirm when time is up; watch until then."""
    error = _too_many_failures(evidence.totals, config) or _too_slow(evidence.latency, evidence.earlier, config)
    if error is not None:
        return Judgement(Verdict.DOUBT, error)
    return Judgement(Verdict.CONFIRM if evidence.elapsed_s >= config.probation_s else Verdict.WATCH)


def _too_many_failures(totals: Totals, config: RuntimeConfig) -> ActivationError | None:
    asked_count = totals.answered_count + totals.failed_count
    if not _enough(asked_count, config) or totals.failed_count <= config.probation_failed_ratio_max * asked_count:
        return None
    return ProbationFailedError(f"it failed {totals.failed_count} of {asked_count} requests after the switch")


def _too_slow(latency: Latency, earlier: Latency, config: RuntimeConfig) -> ActivationError | None:
    if not _enough(latency.count, config):
        return None
    took_ms, before_ms = latency.median_us / 1000, earlier.median_us / 1000
    told = f"half of its {latency.count} live requests took {took_ms:.3g} ms or more"
    if 0 < config.probation_latency_ms_max < took_ms:
        return ProbationSlowError(f"{told}; at most {config.probation_latency_ms_max:g} ms are allowed")
    bound_ms = config.probation_latency_ratio_max * before_ms + config.probation_latency_slack_ms
    if config.probation_latency_ratio_max and _enough(earlier.count, config) and took_ms > bound_ms:
        return ProbationSlowError(f"{told}; the version before took {before_ms:.3g} ms, which allows {bound_ms:.3g} ms")
    return None


def _enough(count: int, config: RuntimeConfig) -> bool:
    return count >= max(config.probation_requests_min, 1)
