"""What a job prints: into CloudWatch Logs, and through its metric definitions.

:class:`JobLog` is written by the container's thread and flushed by another; :class:`MetricScan` belongs to the first.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

EVENTS_PER_CALL_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Metric:
    """The last value of one metric."""

    name: str
    value: float
    at: datetime


class MetricScan:
    """Finds a job's metrics in its lines, by SageMaker's ``MetricDefinitions``: the first group is the value."""

    def __init__(self, definitions: Sequence[Mapping[str, str]]) -> None:
        """Each definition has ``Name`` and ``Regex``.

        Raises:
            ValueError: a regular expression that cannot be compiled, or one without a group; named.
        """
        self._patterns = {definition["Name"]: _compiled(definition) for definition in definitions}
        self._last: dict[str, Metric] = {}

    def line(self, text: str, at: datetime) -> None:
        """Look into one line; a match that is no number is passed over."""
        for name, pattern in self._patterns.items():
            for match in pattern.finditer(text):
                try:
                    self._last[name] = Metric(name, float(match[1]), at)
                except (TypeError, ValueError):
                    continue

    def final(self) -> tuple[Metric, ...]:
        """The last value of each metric that was found, in the order of the definitions."""
        return tuple(self._last[name] for name in self._patterns if name in self._last)


class JobLog:
    """One log stream, filled in batches."""

    def __init__(self, logs: Any, group: str, stream: str) -> None:  # noqa: ANN401 - a boto3 client
        """The stream, and its group where it is missing, are made at the first flush."""
        self._logs = logs
        self._group = group
        self._stream = stream
        self._waiting: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._is_made = False

    def line(self, text: str, at: datetime) -> None:
        """Keep one line for the next flush; an empty one is a space, since CloudWatch takes no empty message."""
        with self._lock:
            self._waiting.append({"timestamp": int(at.timestamp() * 1000), "message": text or " "})

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if waiting and not self._is_made:
            self._make()
        for start in range(0, len(waiting), EVENTS_PER_CALL_MAX):
            self._logs.put_log_events(
                logGroupName=self._group,
                logStreamName=self._stream,
                logEvents=waiting[start : start + EVENTS_PER_CALL_MAX],
            )

    def _make(self) -> None:
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):
            self._logs.create_log_group(logGroupName=self._group)
        self._logs.create_log_stream(logGroupName=self._group, logStreamName=self._stream)
        self._is_made = True


def _compiled(definition: Mapping[str, str]) -> re.Pattern[str]:
    try:
        pattern = re.compile(definition["Regex"])
    except re.error as error:
        raise ValueError(f"metric {definition['Name']}: {definition['Regex']!r} is no pattern: {error}") from error
    if pattern.groups < 1:
        raise ValueError(f"metric {definition['Name']}: {definition['Regex']!r} has no group for the value")
    return pattern
