"""What a model is for, and how its answers are judged against labels: the metric that the task gate compares. Pure.

Every metric is a loss: lower is better, so that one gate reads them all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import numpy as np

from cloud.compilation.samples import Array
from edge_component.contracts.codec import Fields

SUREST = 1e-7
"""Probabilities are kept this far off 0 and 1: float32's own resolution near 1."""


def log_loss(probability: Array, label: Array) -> float:
    """Mean negative log likelihood of binary labels, in nats."""
    certain = np.clip(probability.astype(np.float64), SUREST, 1 - SUREST)
    return float(-np.mean(np.where(label == 1, np.log(certain), np.log1p(-certain))))


def root_mean_squared_error(value: Array, label: Array) -> float:
    """Root of the mean squared difference, in the label's unit."""
    return float(np.sqrt(np.mean((value.astype(np.float64) - label) ** 2)))


METRICS: Mapping[str, Callable[[Array, Array], float]] = MappingProxyType(
    {"log_loss": log_loss, "rmse": root_mean_squared_error}
)
METRICS_OF_KIND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"binary_classification": ("log_loss",), "regression": ("rmse",)}
)


def width_of(answers: Array) -> int:
    """How many columns the answers have, whose axis 0 counts samples; a scalar is a column of its own."""
    return int(answers.shape[-1]) if answers.ndim > 1 else 1


@dataclass(frozen=True, slots=True)
class Task:
    """``model.json``'s task: column ``index`` (last axis) of ``output`` is judged by ``metric``."""

    kind: str
    output: str
    index: int
    metric: str

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode.

        Raises:
            MalformedError: naming the field.
        """
        fields = Fields(value, where)
        kind = fields.choice("kind", tuple(METRICS_OF_KIND))
        return cls(kind, fields.text("output"), fields.integer("index"), fields.choice("metric", METRICS_OF_KIND[kind]))

    def loss(self, outputs: Mapping[str, Array], label: Array) -> float:
        """The metric over samples, whose axis 0 counts them; NaN where an answer is NaN."""
        answers = outputs[self.output]
        column = answers.reshape(len(answers), -1, width_of(answers))[:, :, self.index]
        return METRICS[self.metric](column, np.asarray(label).reshape(len(answers), -1))
