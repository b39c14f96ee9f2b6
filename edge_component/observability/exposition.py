"""Prometheus's text format, version 0.0.4, from plain values; the standard library has none and a client library is heavy.

The failure this exists for: a label with a quote or a newline in it that makes the whole scrape unreadable, and with it
the device invisible. Names are checked where they are made, label values are escaped. Pure.

Source: prometheus.io, "Exposition formats".
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line; ``suffix`` is ``_bucket``, ``_sum`` or ``_count`` of a histogram's."""

    labels: Labels
    value: float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Everything under one name; ``kind`` is ``counter``, ``gauge`` or ``histogram``."""

    name: str
    kind: str
    text: str
    samples: Sequence[Sample]

    def __post_init__(self) -> None:
        """Refuse a name that no scraper could read; names are constants of ours, so this is a defect."""
        for name in (self.name, *(label for sample in self.samples for label in sample.labels)):
            assert _NAME.fullmatch(name), f"{name!r} is no metric or label name"


def histogram_samples(
    labels: Labels, bounds: Sequence[float], counts: Sequence[int], total: float
) -> tuple[Sample, ...]:
    """A histogram's lines from the counts *within* its bins: one per upper bound (inclusive), and one beyond the last."""
    assert len(counts) == len(bounds) + 1
    samples: list[Sample] = []
    below_count = 0
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        below_count += count
        samples.append(Sample({**labels, "le": number(bound)}, below_count, "_bucket"))
    return (*samples, Sample(labels, total, "_sum"), Sample(labels, below_count, "_count"))


def exposition(families: Iterable[Family]) -> bytes:
    """The whole answer to a scrape; a family without samples is left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {_escaped_help(family.text)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += [_line(family.name, sample) for sample in family.samples]
    return "".join(f"{line}\n" for line in lines).encode()


def number(value: float) -> str:
    """As Prometheus reads it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in sample.labels.items())
    return f"{name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
