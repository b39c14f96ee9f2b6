"""What a candidate must show before it may be chosen: values in, verdicts out. Pure.

The failure this exists for: an int8 graph that is fast, small and wrong. It is compared with the fp32 graph on real
samples, in each output's own unit and in the task's metric; a candidate that saves nothing is refused as well, since
the exact one is then the better one. Every gate answers with the value it found, the limit, and a sentence.

Latency is not asked here: this machine is not the device. That gate is a canary device's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cloud.compilation.result import GateVerdict
from cloud.compilation.samples import Array
from edge_component.contracts.manifest import GoldenTest

WORST = 1e9
"""Stands for an error beyond all measure (NaN, infinity, another shape): JSON knows no infinity."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What is allowed at most.

    Attributes:
        load_ms_max: the first load, cold caches included.
        fp32_rtol, fp32_atol: against golden outputs; another CPU's fp32 kernels differ by about 1e-6.
        golden_span_ratio_max: largest difference of an int8 variant on a golden sample, by the output's span there.
        golden_margin: a device's tolerance for an int8 variant is the difference found here times this, since its
            kernels round differently.
        output_error_max: root mean square difference from fp32, by the fp32 output's standard deviation.
        task_loss_increase_max: of the task's metric over fp32's, in the metric's unit.
        size_ratio_max: int8's bytes by fp32's.
    """

    load_ms_max: float = 60_000
    fp32_rtol: float = 1e-3
    fp32_atol: float = 1e-4
    golden_span_ratio_max: float = 0.1
    golden_margin: float = 2.0
    output_error_max: float = 0.05
    task_loss_increase_max: float = 0.01
    size_ratio_max: float = 0.9


GATE_LIMITS = GateLimits()


def loads(precision: str, load_ms: float, limits: GateLimits = GATE_LIMITS) -> GateVerdict:
    """The graph loads, and in time."""
    return _verdict("loads", precision, load_ms, limits.load_ms_max, "ms", "loading takes")


def does_not_run(precision: str, sentence: str) -> GateVerdict:
    """The graph does not load, or fails on a sample."""
    return GateVerdict("loads", precision, False, WORST, GATE_LIMITS.load_ms_max, "ms", sentence)


def golden_exact(
    precision: str, expected: Mapping[str, Array], got: Mapping[str, Array], limits: GateLimits = GATE_LIMITS
) -> GateVerdict:
    """Golden outputs within fp32's tolerance; the value is the worst difference in units of the tolerance."""
    worst = max(
        _worst(
            _absolute_error(expected[name], got[name]) / (limits.fp32_atol + limits.fp32_rtol * _size(expected[name]))
        )
        for name in expected
    )
    return _verdict("golden", precision, worst, 1.0, "tolerances", "the golden outputs differ by")


def golden_near(
    precision: str, expected: Mapping[str, Array], got: Mapping[str, Array], limits: GateLimits = GATE_LIMITS
) -> GateVerdict:
    """Golden outputs near enough for int8: the worst difference in units of that output's span."""
    worst = max(_worst(_absolute_error(expected[name], got[name])) / _span(expected[name]) for name in expected)
    return _verdict("golden", precision, worst, limits.golden_span_ratio_max, "spans", "the golden outputs differ by")


def output_errors(
    precision: str, reference: Mapping[str, Array], got: Mapping[str, Array], limits: GateLimits = GATE_LIMITS
) -> tuple[GateVerdict, ...]:
    """One verdict for each output: root mean square difference in standard deviations of the reference."""
    return tuple(
        _verdict(
            f"output_error:{name}",
            precision,
            _deviation(reference[name], got[name]),
            limits.output_error_max,
            "standard deviations",
            f"output {name} differs from fp32 by",
        )
        for name in reference
    )


def task_loss(
    precision: str, metric: str, reference: float, found: float, limits: GateLimits = GATE_LIMITS
) -> GateVerdict:
    """The task's metric, against fp32's on the same labelled samples."""
    increase = found - reference if np.isfinite(found) and np.isfinite(reference) else WORST
    sentence = f"{metric} goes from {reference:.4f} to {found:.4f}, that is"
    return _verdict("task_metric", precision, increase, limits.task_loss_increase_max, metric, sentence)


def size(precision: str, size_bytes: int, reference_bytes: int, limits: GateLimits = GATE_LIMITS) -> GateVerdict:
    """A smaller file, or there is nothing to gain."""
    sentence = f"{size_bytes} bytes instead of {reference_bytes}, that is"
    return _verdict("size", precision, size_bytes / reference_bytes, limits.size_ratio_max, "of fp32's", sentence)


def tolerance(
    precision: str, expected: Mapping[str, Array], got: Mapping[str, Array], limits: GateLimits = GATE_LIMITS
) -> GoldenTest:
    """What the device's golden test may allow for this variant."""
    if precision == "fp32":
        return GoldenTest(limits.fp32_rtol, limits.fp32_atol)
    worst = max(_worst(_absolute_error(expected[name], got[name])) for name in expected)
    return GoldenTest(limits.fp32_rtol, max(limits.fp32_atol, limits.golden_margin * worst))


def _verdict(gate: str, precision: str, value: float, limit: float, unit: str, what: str) -> GateVerdict:
    bounded = min(float(value), WORST)
    passed = bounded <= limit
    sentence = f"{precision}: {what} {bounded:.4g} {unit}; {'at most' if passed else 'more than the allowed'} {limit:g}"
    return GateVerdict(gate, precision, passed, bounded, limit, unit, sentence)


def _absolute_error(expected: Array, got: Array) -> Array:
    """Element-wise difference: 0 where both are NaN or the same infinity or text, ``WORST`` where only one is."""
    if expected.shape != got.shape:
        return np.full(1, WORST)
    if expected.dtype.kind not in "biuf":
        return np.where(expected == got, 0.0, WORST)
    left, right = expected.astype(np.float64), got.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(left - right))
    return np.where(np.isfinite(difference), difference, WORST)


def _size(expected: Array) -> Array:
    """Magnitude of the expected values; 0 where it has none."""
    if expected.dtype.kind not in "biuf":
        return np.zeros(1)
    return np.nan_to_num(np.abs(expected.astype(np.float64)), nan=0.0, posinf=0.0)


def _span(expected: Array) -> float:
    """Largest less smallest finite value; 1 where all are the same, or texts."""
    if expected.dtype.kind not in "biuf":
        return 1.0
    finite = expected[np.isfinite(expected)].astype(np.float64)
    span = float(finite.max() - finite.min()) if finite.size else 0.0
    return span or 1.0


def _deviation(reference: Array, got: Array) -> float:
    error = _absolute_error(reference, got)
    if reference.dtype.kind not in "biuf":
        return _worst(error)
    finite = reference[np.isfinite(reference)].astype(np.float64)
    spread = float(finite.std()) if finite.size else 0.0
    return float(np.sqrt(np.mean(np.minimum(error, WORST) ** 2))) / (spread or 1.0)


def _worst(values: Array) -> float:
    return float(values.max()) if values.size else 0.0
