"""How well does a model do where no labels come back? Estimated from its own confidence. Pure; numpy only.

The failure this exists for: retraining on every shift of an input. In real data every feature drifts all the time,
harmful or not; only a drop of performance says that it matters. Confidence-based performance estimation (CBPE, as
NannyML's documentation describes it) takes a calibrated probability as each record's chance of being a true positive.
Here the calibration comes with the baseline, as the share of true positives in each of the 64 score bins, so that the
histogram of the scores is enough.

CBPE alone has a failure of its own: a model grows *surer* where it extrapolates. The weather model of January and
February is calibrated, and in July its log loss was estimated to fall from .19 to .10 while it rose to .35. Calibration
vouches only for inputs like those it was made with, so the share of records that lies outside the baseline's range (the
telemetry counts them) is *unsupported*: for it the estimate is that of a forecast which knows the base rate and nothing
else. Over 60 half-month windows of three stations this raised the rank correlation between estimated and realised log
loss from .12 to .70 (``tests/cloud/drift/test_weather.py`` prints both).

What it still cannot see: a world in which the same inputs mean another chance. Labels, where they arrive, go the same
way into ``decision`` (:class:`Performance` with ``source="labelled"``) and are believed first.

The window's estimate is compared with the baseline's estimate by the same formula and bins, not with its realised
figures, so that binning cancels out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_component.contracts.baseline import BaselineColumn
from edge_component.contracts.telemetry import ColumnCounts

SCORE_MIN = 1e-6
"""Scores are kept this far from 0 and 1 in the logarithm, or one sure and wrong record would be infinitely bad."""

POSITIVE_FROM = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Support:
    """How much of a window the baseline cannot vouch for: the share of records beyond its range in ``feature``.

    Histograms know no joint distribution, so this is the largest share of any one feature: a lower bound.
    """

    unsupported_ratio: float = 0.0
    feature: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected metrics of the records in one histogram of scores.

    Attributes:
        accuracy: share of right answers at threshold .5.
        log_loss: in nats.
        auc: area under the ROC curve; ``nan`` if the records are expected to be all of one class.
        accuracy_se, log_loss_se: standard errors, as if records were independent.
        record_count: scores in the histogram.
    """

    accuracy: float
    log_loss: float
    auc: float
    accuracy_se: float
    log_loss_se: float
    record_count: int


@dataclass(frozen=True, slots=True)
class Performance:
    """A window's performance beside the baseline's; ``source`` is ``estimated`` or ``labelled``."""

    source: str
    output: str
    window: Estimate
    baseline: Estimate
    support: Support = Support()

    @property
    def log_loss_rise(self) -> float:
        """In nats; positive is worse."""
        return self.window.log_loss - self.baseline.log_loss

    @property
    def accuracy_drop(self) -> float:
        """Share of answers; positive is worse."""
        return self.baseline.accuracy - self.window.accuracy

    @property
    def log_loss_z(self) -> float:
        """The rise in standard errors."""
        return _in_errors(self.log_loss_rise, self.window.log_loss_se, self.baseline.log_loss_se)

    @property
    def accuracy_z(self) -> float:
        """The drop in standard errors."""
        return _in_errors(self.accuracy_drop, self.window.accuracy_se, self.baseline.accuracy_se)


def support_of(features: Mapping[str, ColumnCounts]) -> Support:
    """The feature with the most values beyond the baseline's range."""
    totals = {name: sum(each.counts) + each.nan_count + each.infinite_count for name, each in features.items()}
    shares = {name: features[name].out_of_range_count / total for name, total in totals.items() if total}
    if not shares:
        return Support()
    name = max(sorted(shares), key=lambda each: shares[each])
    return Support(min(shares[name], 1.0), name if shares[name] else "")


def estimate(column: BaselineColumn, scores: ColumnCounts, support: Support = Support()) -> Performance | None:
    """Compare a window's score histogram with the baseline's; ``None`` without calibration or without records."""
    if column.positive_rate is None or sum(scores.counts) == 0 or sum(column.counts) == 0:
        return None
    rates, centres = np.asarray(column.positive_rate, np.float64), score_centres(column)
    reference = np.asarray(column.counts, np.float64)
    base_rate = float((reference * rates).sum() / reference.sum())
    seen = np.zeros_like(reference)
    given = np.asarray(scores.counts[: rates.size], np.float64)
    seen[: given.size] = given
    return Performance(
        source="estimated",
        output=column.name,
        window=expected(seen, rates, centres, support.unsupported_ratio, base_rate),
        baseline=expected(reference, rates, centres),
        support=support,
    )


def expected(
    counts: Floats, rates: Floats, centres: Floats, unsupported_ratio: float = 0.0, base_rate: float = 0.5
) -> Estimate:
    """The expected metrics of ``counts[i]`` records with score ``centres[i]``, of which ``rates[i]`` are positive.

    Shapes: all (bins,), scores not decreasing. Accuracy: Σ w·(r where the score says positive, else 1 - r). Log loss:
    Σ w·-(r·ln p + (1 - r)·ln(1 - p)). AUC: the chance that a positive record lies in a higher bin than a negative one,
    ties counting half (Mann and Whitney). A share ``unsupported_ratio`` of the records counts as answered with
    ``base_rate`` instead, and pairs with any of them as coin tosses.
    """
    total = float(counts.sum())
    weights = np.append(counts * (1 - unsupported_ratio), total * unsupported_ratio)
    chances = np.append(rates, base_rate)
    answers = np.append(centres, base_rate)
    scores = np.clip(answers, SCORE_MIN, 1 - SCORE_MIN)
    right = np.where(answers >= POSITIVE_FROM, chances, 1 - chances)
    loss = -(chances * np.log(scores) + (1 - chances) * np.log(1 - scores))
    # Whether one record is positive is a toss within its bin, so each bin's own variance is binomial.
    toss = chances * (1 - chances)
    accuracy, accuracy_se = _mean(weights, right, toss)
    log_loss, log_loss_se = _mean(weights, loss, toss * np.log(scores / (1 - scores)) ** 2)
    paired = (1 - unsupported_ratio) ** 2
    auc = paired * _auc(counts, rates) + (1 - paired) * 0.5
    return Estimate(accuracy, log_loss, auc, accuracy_se, log_loss_se, int(total))


def score_centres(column: BaselineColumn) -> Floats:
    """One score for each of the 64 bins: its middle, the outer bins being bounded by the baseline's extremes."""
    bounds = np.concatenate(([column.minimum], np.asarray(column.edges), [column.maximum]))
    bounds = np.clip(bounds, column.minimum, column.maximum)
    return np.asarray((bounds[:-1] + bounds[1:]) / 2, np.float64)


def _mean(weights: Floats, values: Floats, inner: Floats) -> tuple[float, float]:
    """Mean of records in groups, and its standard error; ``inner`` is each group's own variance."""
    total = float(weights.sum())
    mean = float((weights * values).sum() / total)
    variance = float((weights * ((values - mean) ** 2 + inner)).sum() / total)
    return mean, math.sqrt(max(variance, 0.0) / total)


def _auc(counts: Floats, rates: Floats) -> float:
    positives, negatives = counts * rates, counts * (1 - rates)
    pairs = float(positives.sum() * negatives.sum())
    if pairs == 0:
        return math.nan
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum()) / pairs


def _in_errors(difference: float, first_se: float, second_se: float) -> float:
    error = math.hypot(first_se, second_se)
    if error == 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / error
