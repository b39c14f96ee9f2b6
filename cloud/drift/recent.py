"""Windows as they were read, for the judgements that follow: in a fleet, everybody's peers are the same few hundred.

The failure this exists for: each of ten thousand devices' judgements decoding two hundred peers' windows anew, so that judging
five minutes of telemetry took an hour. A window whose parts have all arrived never changes. Bounded by columns, since a
model may have a thousand of them. One thread.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from edge_component.contracts.telemetry import TelemetryWindow

COLUMN_COUNT_MAX = 20_000
"""Columns kept, some 0.7 kB each: a thousand windows of twenty."""

Name = tuple[str, str]
Parts = tuple[TelemetryWindow, ...]


class RecentWindows:
    """The parts of windows by thing name and window id; those that were asked for longest ago go first."""

    def __init__(
        self, read: Callable[[Sequence[Name]], dict[Name, Parts]], column_count_max: int = COLUMN_COUNT_MAX
    ) -> None:
        """``read`` reads several windows at once, those that are there."""
        self._read = read
        self._column_count_max = column_count_max
        self._kept: OrderedDict[Name, Parts] = OrderedDict()
        self._column_count = 0

    def parts(self, names: Sequence[Name]) -> tuple[TelemetryWindow, ...]:
        """Every part of these windows, in order."""
        found = self._read([name for name in names if name not in self._kept])
        for name in names:
            if name in self._kept:
                found[name] = self._kept[name]
                self._kept.move_to_end(name)
            elif name in found:
                self._kept[name] = found[name]
                self._column_count += _columns(found[name])
        while self._column_count > self._column_count_max:
            self._column_count -= _columns(self._kept.popitem(last=False)[1])
        return tuple(part for name in names for part in found.get(name, ()))


def _columns(parts: Parts) -> int:
    """At least one: a window may say nothing of any column."""
    return max(sum(len(part.features) + len(part.outputs) for part in parts), 1)
