"""The values that a drift decision is made of: its limits, its evidence, its outcome. No logic."""

from collections.abc import Mapping
from dataclasses import dataclass

from cloud.drift.distances import Test
from cloud.drift.performance import Performance
from edge_component.contracts.telemetry import ColumnCounts

LEVELS = ("insufficient", "quiet", "warn", "alarm")


@dataclass(frozen=True, slots=True)
class DriftLimits:
    """The rule's numbers.

    Attributes:
        record_count_min: records in a judged window, and in the peers' together.
        significance: of the whole judgement, before Bonferroni.
        warn_distance, alarm_distance: KS distances, shares within 0 and 1.
        row_count: judgements in a row.
        log_loss_rise_ratio_min: rise of the estimated log loss over the baseline's, as a share of it.
        accuracy_drop_min: share of answers.
        drop_errors_min: standard errors.
    """

    record_count_min: int = 200
    significance: float = 0.05
    warn_distance: float = 0.05
    alarm_distance: float = 0.10
    row_count: int = 3
    log_loss_rise_ratio_min: float = 0.10
    accuracy_drop_min: float = 0.02
    drop_errors_min: float = 3.0


DEFAULT_LIMITS = DriftLimits()


@dataclass(frozen=True, slots=True)
class Observed:
    """The merged counts of one or more windows over one baseline's bins."""

    record_count: int
    features: Mapping[str, ColumnCounts]
    outputs: Mapping[str, ColumnCounts]


@dataclass(frozen=True, slots=True)
class Streak:
    """For how many judgements in a row, this one included, a column's distance was at least a warning, an alarm."""

    warn: int = 0
    alarm: int = 0


@dataclass(frozen=True, slots=True)
class ColumnJudgement:
    """One feature.

    Attributes:
        absolute: against the baseline.
        relative: against the peers; distance 0 and p 1 where there are none.
        chi_squared, stability_index: against the baseline, reported beside it and never decided by.
        absolute_level, relative_level: of this window alone: ``quiet``, ``warn`` or ``alarm``.
        absolute_streak, relative_streak: see :class:`Streak`.
        peers_level: how far the peers themselves are from the baseline.
    """

    name: str
    absolute: Test
    relative: Test
    chi_squared: Test
    stability_index: float
    absolute_level: str
    relative_level: str
    absolute_streak: Streak
    relative_streak: Streak
    peers_level: str


@dataclass(frozen=True, slots=True)
class DriftDecision:
    """What was found, and what should be done.

    Attributes:
        level: of ``LEVELS``; what persisted, not what this window alone shows.
        action: ``none``, ``watch``, ``inspect`` or ``retrain``.
        sentence: plain words, with the features, their distances and the drop.
        columns: every feature, the farthest first.
        performance: ``None`` where it can be neither estimated nor looked up.
        has_dropped: whether performance counts as dropped.
        record_count, peer_record_count: what it was read from.
    """

    level: str
    action: str
    sentence: str
    columns: tuple[ColumnJudgement, ...]
    performance: Performance | None
    has_dropped: bool
    record_count: int
    peer_record_count: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the action and the sentence are read from.

    Attributes:
        columns: every feature, the farthest first.
        level: of ``LEVELS``.
        performance: estimated or labelled, if any.
        has_dropped: whether it counts as dropped; ``None`` without one.
        peers_drift: whether the device's peers drift in the same features; ``None`` without peers.
    """

    columns: tuple[ColumnJudgement, ...]
    level: str
    performance: Performance | None
    has_dropped: bool | None
    peers_drift: bool | None
