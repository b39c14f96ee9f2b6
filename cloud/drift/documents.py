"""A drift decision as JSON, for the store, the event and the API; and back as far as the next judgement needs it.

Law: ``streaks_from(to_document(decision)) == streaks_of(decision)``. Numbers that JSON lacks (NaN, infinity) become null.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cloud.drift.judgement import ColumnJudgement, DriftDecision, Streak
from cloud.drift.performance import Performance

DISTANCE_DIGITS = 6


def to_document(decision: DriftDecision) -> dict[str, Any]:
    """Everything a decision holds."""
    return {
        "level": decision.level,
        "action": decision.action,
        "sentence": decision.sentence,
        "record_count": decision.record_count,
        "peer_record_count": decision.peer_record_count,
        "has_dropped": decision.has_dropped,
        "performance": None if decision.performance is None else _performance(decision.performance),
        "columns": [_column(column) for column in decision.columns],
    }


def streaks_from(document: Mapping[str, Any]) -> Mapping[str, tuple[Streak, Streak]]:
    """What the next judgement needs to know of a stored one."""
    return {
        column["name"]: (Streak(**column["absolute_streak"]), Streak(**column["relative_streak"]))
        for column in document["columns"]
    }


def _column(column: ColumnJudgement) -> dict[str, Any]:
    return {
        "name": column.name,
        "absolute_distance": _finite(column.absolute.statistic),
        "absolute_p": _finite(column.absolute.p_value),
        "absolute_level": column.absolute_level,
        "absolute_streak": asdict(column.absolute_streak),
        "relative_distance": _finite(column.relative.statistic),
        "relative_p": _finite(column.relative.p_value),
        "relative_level": column.relative_level,
        "relative_streak": asdict(column.relative_streak),
        "peers_level": column.peers_level,
        "chi_squared_v": _finite(column.chi_squared.statistic),
        "chi_squared_p": _finite(column.chi_squared.p_value),
        "stability_index": _finite(column.stability_index),
    }


def _performance(performance: Performance) -> dict[str, Any]:
    return {
        "source": performance.source,
        "output": performance.output,
        "baseline": {name: _finite(value) for name, value in asdict(performance.baseline).items()},
        "window": {name: _finite(value) for name, value in asdict(performance.window).items()},
        "unsupported_ratio": _finite(performance.support.unsupported_ratio),
        "unsupported_feature": performance.support.feature,
    }


def _finite(value: float) -> float | None:
    return round(value, DISTANCE_DIGITS) if math.isfinite(value) else None
