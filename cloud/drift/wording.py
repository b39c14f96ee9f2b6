"""A drift decision in plain words: which features, how far, for how long, and what it did to the performance. Pure."""

from collections.abc import Sequence

from cloud.drift.judgement import ColumnJudgement, DriftLimits, Evidence
from cloud.drift.performance import Support

NAMED_FEATURES_MAX = 3
NAMED_SUPPORT_MIN = 0.01


def sentence_of(evidence: Evidence, action: str, limits: DriftLimits) -> str:
    """One sentence of evidence and one of advice."""
    parts = [_drift_clause(evidence, limits), _performance_clause(evidence)]
    if evidence.peers_drift is not None and action in {"retrain", "inspect"}:
        parts.append("its peers drift as well" if evidence.peers_drift else "its peers do not drift")
    return f"{'; '.join(parts)}. {ADVICE[action]}"


ADVICE = {
    "none": "Nothing to do.",
    "watch": "Watch it; no reason to retrain.",
    "inspect": "Inspect this device's sensors before anything else.",
    "retrain": "Retrain.",
}


def _drift_clause(evidence: Evidence, limits: DriftLimits) -> str:
    columns = evidence.columns
    if evidence.level == "quiet":
        drifting = [column for column in columns if column.absolute_level != "quiet"]
        if not drifting:
            return "No feature drifts"
        return f"{_named(drifting)} drifted in this window, not yet {limits.row_count} in a row"
    lasting = [column for column in columns if column.absolute_streak.warn >= limits.row_count]
    if not lasting:
        lasting = [column for column in columns if column.relative_streak.warn >= limits.row_count]
        return f"{_named(lasting, relative=True)} differs from its peers for {limits.row_count} windows or more"
    return f"{_named(lasting)} drifted from the baseline for {limits.row_count} windows or more"


def _named(columns: Sequence[ColumnJudgement], *, relative: bool = False) -> str:
    named = [
        f"{column.name} (D = {(column.relative if relative else column.absolute).statistic:.2f})"
        for column in columns[:NAMED_FEATURES_MAX]
    ]
    more = len(columns) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _performance_clause(evidence: Evidence) -> str:
    performance = evidence.performance
    if performance is None:
        return "performance is unknown, for want of a calibrated probability"
    before, now = performance.baseline, performance.window
    figures = (
        f"log loss {before.log_loss:.3f} to {now.log_loss:.3f}, accuracy {before.accuracy:.3f} to {now.accuracy:.3f}, "
        f"AUC {before.auc:.3f} to {now.auc:.3f}"
    )
    verb = "dropped" if evidence.has_dropped else "did not drop"
    return f"{performance.source} performance {verb} ({figures}){_support_clause(performance.support)}"


def _support_clause(support: Support) -> str:
    if support.unsupported_ratio < NAMED_SUPPORT_MIN:
        return ""
    return f", {support.unsupported_ratio:.0%} of the records having a {support.feature} never seen in training"
