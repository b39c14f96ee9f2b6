"""How good a forecast is on held-out time, and what it must at least beat.

The failure this exists for: a model that looks good because low visibility is rare, or because the next hour resembles
this one. So the judge splits by time, never at random, and asks for a margin over two references that know nothing
else: the *majority* (the base rate, for every hour) and *persistence* (visibility stays as it is). A hard persistence
forecast would have an infinite log loss, so it is given its best chance: the rate of low hours after a low hour, and
after a clear one, counted on the training stretch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from data import Examples, moment_of
from sklearn.metrics import log_loss, roc_auc_score

HOURS_PER_DAY = 24
LABEL_HOURS = 1
"""A label is known this many hours after it is asked for; that much is left out between training and held-out time."""

Probabilities = npt.NDArray[np.float64]


class RefusedError(Exception):
    """The data or the trained model is not good enough; the sentence goes into the job's FailureReason."""


@dataclass(frozen=True, slots=True)
class Split:
    """Training time, and the held-out stretch after it."""

    training: Examples
    held_out: Examples


@dataclass(frozen=True, slots=True)
class Score:
    """Log loss in nats (lower is better) and area under the ROC curve (higher is better)."""

    log_loss: float
    auc: float


@dataclass(frozen=True, slots=True)
class Margins:
    """How far better than a reference a model must be, on both metrics."""

    log_loss: float
    auc: float


def split_by_time(examples: Examples, holdout_days: int) -> Split:
    """Hold out the last ``holdout_days`` days.

    Raises:
        RefusedError: one of the two stretches is empty or has hours of one kind only.
    """
    first_held_out = int(examples.hours[-1]) + 1 - holdout_days * HOURS_PER_DAY
    split = Split(
        examples.where(examples.hours < first_held_out - LABEL_HOURS),
        examples.where(examples.hours >= first_held_out),
    )
    for name, stretch in (("training", split.training), ("held-out", split.held_out)):
        if len(stretch) == 0 or len(np.unique(stretch.label)) < 2:
            raise RefusedError(
                f"the {name} stretch ({describe(stretch)}) does not hold both clear and low hours; "
                f"give more observations, or another holdout_days than {holdout_days}"
            )
    return split


def score(label: npt.NDArray[np.float32], probability: Probabilities) -> Score:
    """Judge probabilities of low visibility against what came."""
    return Score(float(log_loss(label, probability, labels=[0, 1])), float(roc_auc_score(label, probability)))


def reference_forecasts(split: Split) -> dict[str, Probabilities]:
    """The majority and the persistence forecast for the held-out stretch, their rates counted on training time."""
    return {
        "majority": np.full(len(split.held_out), _rate(split.training.label)),
        "persistence": np.where(
            split.held_out.is_low_now == 1,
            _rate(split.training.label[split.training.is_low_now == 1]),
            _rate(split.training.label[split.training.is_low_now == 0]),
        ),
    }


def margins_over(reference: Score, candidate: Score) -> Margins:
    """How much better the candidate is; negative where it is worse."""
    return Margins(reference.log_loss - candidate.log_loss, candidate.auc - reference.auc)


def require(name: str, found: Margins, wanted: Margins) -> None:
    """Let a candidate pass that beats a reference by the wanted margins.

    Raises:
        RefusedError: it does not, on either metric.
    """
    if found.log_loss < wanted.log_loss or found.auc < wanted.auc:
        raise RefusedError(
            f"the model does not beat {name} on held-out time: its log loss is better by {found.log_loss:.4f} "
            f"(wanted {wanted.log_loss}), its AUC by {found.auc:.4f} (wanted {wanted.auc})"
        )


def describe(stretch: Examples) -> str:
    """Such as ``1008 hours from 2013-02-15 to 2013-02-28``."""
    if len(stretch) == 0:
        return "0 hours"
    first, last = moment_of(int(stretch.hours[0])), moment_of(int(stretch.hours[-1]))
    return f"{len(stretch)} hours from {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _rate(label: npt.NDArray[np.float32]) -> float:
    """Share of low hours, with Laplace's rule of succession, so that it is never 0 or 1."""
    return float((label.sum() + 1) / (len(label) + 2))
