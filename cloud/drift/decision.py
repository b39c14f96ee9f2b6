"""Has the world moved away from a model, does it matter, and what should be done? Pure.

The failure this exists for: alarms that fire on every window of real data, and retraining that they set off. The rule
(measured on synthetic shifts and two real data sets):

1. A judgement needs ``record_count_min`` records; less is no evidence, and says so.
2. Each feature's window is compared with the baseline (*absolute*) and with what the device's peers saw in the same time
   (*relative*) by Kolmogorov-Smirnov over the 64 bins, missing values being a bin of their own. Two tests for each of F
   features, so a distance counts only where p < ``significance`` / 2F (Bonferroni).
3. Of those, D >= ``warn_distance`` warns and D >= ``alarm_distance`` alarms.
4. Only what holds for ``row_count`` judgements in a row becomes the decision's level.
5. Retraining needs more: a persistent absolute drift, a performance drop beside it (estimated or labelled), and peers
   that drift as well. A device that drifts alone has a fault of its own: look at the device first.

Performance counts as dropped where log loss rose, or accuracy fell, by more than its floor *and* by more than
``drop_errors_min`` standard errors.

It reads no store and fetches no baseline (``watch`` does). The history that persistence needs is an argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cloud.drift.distances import NO_EVIDENCE, Test, chi_squared, kolmogorov_smirnov, population_stability_index
from cloud.drift.judgement import (
    DEFAULT_LIMITS,
    ColumnJudgement,
    DriftDecision,
    DriftLimits,
    Evidence,
    Observed,
    Streak,
)
from cloud.drift.performance import Performance, estimate, support_of
from cloud.drift.wording import sentence_of
from edge_component.contracts.baseline import Baseline, BaselineColumn
from edge_component.contracts.telemetry import ColumnCounts

NO_STREAKS: Mapping[str, tuple[Streak, Streak]] = {}


def decide(
    window: Observed,
    baseline: Baseline,
    peers: Observed | None = None,
    streaks: Mapping[str, tuple[Streak, Streak]] = NO_STREAKS,
    labelled: Performance | None = None,
    limits: DriftLimits = DEFAULT_LIMITS,
) -> DriftDecision:
    """Apply the rule above.

    Args:
        window: what the device saw.
        baseline: of the model that answered; its bins must be the window's.
        peers: what other devices with the same baseline saw in the same time.
        streaks: :func:`streaks_of` of the judgement before this one, of the same device and model version.
        labelled: realised performance, where labels came; believed before the estimate.
        limits: the rule's numbers.
    """
    peers = peers if peers is not None and peers.record_count >= limits.record_count_min else None
    peer_count = peers.record_count if peers else 0
    if window.record_count < limits.record_count_min:
        sentence = f"{window.record_count} records are too few to judge; {limits.record_count_min} are needed."
        return DriftDecision("insufficient", "none", sentence, (), None, False, window.record_count, peer_count)
    columns = [_judge_column(column, window, peers, baseline, streaks, limits) for column in baseline.features]
    columns.sort(key=lambda column: (-column.absolute.statistic, column.name))
    performance = labelled or _estimated(window, baseline)
    evidence = Evidence(
        columns=tuple(columns),
        level=_persistent_level(columns, limits),
        performance=performance,
        has_dropped=None if performance is None else dropped(performance, limits),
        peers_drift=None if peers is None else _peers_drift(columns, limits),
    )
    action = _action(evidence, limits)
    return DriftDecision(
        level=evidence.level,
        action=action,
        sentence=sentence_of(evidence, action, limits),
        columns=evidence.columns,
        performance=performance,
        has_dropped=bool(evidence.has_dropped),
        record_count=window.record_count,
        peer_record_count=peer_count,
    )


def streaks_of(decision: DriftDecision) -> Mapping[str, tuple[Streak, Streak]]:
    """What the next judgement needs to know of this one."""
    return {column.name: (column.absolute_streak, column.relative_streak) for column in decision.columns}


def dropped(performance: Performance, limits: DriftLimits = DEFAULT_LIMITS) -> bool:
    """Whether a performance counts as dropped: beyond the floor and beyond chance, in log loss or in accuracy."""
    rise_min = limits.log_loss_rise_ratio_min * performance.baseline.log_loss
    by_loss = performance.log_loss_rise >= rise_min and performance.log_loss_z >= limits.drop_errors_min
    by_accuracy = (
        performance.accuracy_drop >= limits.accuracy_drop_min and performance.accuracy_z >= limits.drop_errors_min
    )
    return by_loss or by_accuracy


def histogram(counts: ColumnCounts) -> list[int]:
    """Counts with the missing values (NaN, infinite) as a first bin of their own."""
    return [counts.nan_count + counts.infinite_count, *counts.counts]


def _whole(counts: ColumnCounts | None, column: BaselineColumn) -> ColumnCounts:
    """As many bins as the baseline has; empty ones for ``None``."""
    if counts is None:
        return ColumnCounts((0,) * len(column.counts))
    missing_count = max(len(column.counts) - len(counts.counts), 0)
    return replace(counts, counts=counts.counts[: len(column.counts)] + (0,) * missing_count)


def gap_beyond(one: ColumnCounts, other: ColumnCounts) -> float:
    """A distance that is certain from values beyond the baseline's range, which share bins with those at its ends.

    The failure this exists for: a feature that was 0 in most of the baseline, and is -5 now. Both lie in the first bin.

    How large a share lies below the range, and how large above, is known within bounds: at least what the other end's bin
    cannot hold, at most what its own does. Where the bounds of two samples are apart, so are their distributions.
    """
    pairs = zip(_ends(one), _ends(other), strict=True)
    return min(max(max(first[0] - second[1], second[0] - first[1], 0.0) for first, second in pairs), 1.0)


def _ends(counts: ColumnCounts) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bounds of the shares that lie below the range, with what is missing before them, and above it."""
    missing = counts.nan_count + counts.infinite_count
    total = sum(counts.counts) + missing
    if not total:
        return (0.0, 1.0), (0.0, 1.0)  # anything may be so
    beyond, first, last = counts.out_of_range_count, counts.counts[0], counts.counts[-1]
    below = missing + max(beyond - last, 0), missing + min(beyond, first)
    above = max(beyond - first, 0), min(beyond, last)
    return (below[0] / total, below[1] / total), (above[0] / total, above[1] / total)


def _judge_column(
    column: BaselineColumn,
    window: Observed,
    peers: Observed | None,
    baseline: Baseline,
    streaks: Mapping[str, tuple[Streak, Streak]],
    limits: DriftLimits,
) -> ColumnJudgement:
    known = ColumnCounts(column.counts, column.nan_count, column.infinite_count)
    mine = _whole(window.features.get(column.name), column)
    theirs = _whole(peers.features.get(column.name) if peers else None, column)
    expected, seen, beside = (histogram(counts) for counts in (known, mine, theirs))
    p_max = limits.significance / (2 * len(baseline.features))
    absolute = kolmogorov_smirnov(seen, expected, gap_beyond(mine, known))
    relative = kolmogorov_smirnov(seen, beside, gap_beyond(mine, theirs)) if peers else NO_EVIDENCE
    absolute_level, relative_level = _level(absolute, p_max, limits), _level(relative, p_max, limits)
    before = streaks.get(column.name, (Streak(), Streak()))
    return ColumnJudgement(
        name=column.name,
        absolute=absolute,
        relative=relative,
        chi_squared=chi_squared(expected, seen),
        stability_index=population_stability_index(expected, seen),
        absolute_level=absolute_level,
        relative_level=relative_level,
        absolute_streak=_continued(before[0], absolute_level),
        relative_streak=_continued(before[1], relative_level),
        peers_level=_level(kolmogorov_smirnov(beside, expected, gap_beyond(theirs, known)), p_max, limits),
    )


def _level(test: Test, p_max: float, limits: DriftLimits) -> str:
    if test.p_value >= p_max or test.statistic < limits.warn_distance:
        return "quiet"
    return "alarm" if test.statistic >= limits.alarm_distance else "warn"


def _continued(before: Streak, level: str) -> Streak:
    return Streak(
        warn=before.warn + 1 if level in {"warn", "alarm"} else 0, alarm=before.alarm + 1 if level == "alarm" else 0
    )


def _persistent_level(columns: Sequence[ColumnJudgement], limits: DriftLimits) -> str:
    streaks = [streak for column in columns for streak in (column.absolute_streak, column.relative_streak)]
    if any(streak.alarm >= limits.row_count for streak in streaks):
        return "alarm"
    return "warn" if any(streak.warn >= limits.row_count for streak in streaks) else "quiet"


def _peers_drift(columns: Sequence[ColumnJudgement], limits: DriftLimits) -> bool:
    lasting = (column for column in columns if column.absolute_streak.warn >= limits.row_count)
    return any(column.peers_level != "quiet" for column in lasting)


def _action(evidence: Evidence, limits: DriftLimits) -> str:
    if evidence.level == "quiet":
        return "none"
    is_alone = evidence.peers_drift is False
    if evidence.has_dropped and any(column.absolute_streak.alarm >= limits.row_count for column in evidence.columns):
        return "inspect" if is_alone else "retrain"
    return "inspect" if is_alone and evidence.level == "alarm" else "watch"


def _estimated(window: Observed, baseline: Baseline) -> Performance | None:
    support = support_of(window.features)
    for column in baseline.outputs:
        counts = window.outputs.get(column.name)
        performance = estimate(column, counts, support) if counts else None
        if performance is not None:
            return performance
    return None
