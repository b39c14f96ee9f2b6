"""The loop from telemetry windows to a retraining: judge what is new, store it, report it, announce an incident once.

The shell around ``assembly`` and ``decision``. The order is judge → report → record → announce: a crash repeats a
judgement with the same outcome, and an announcement that may have been lost is sent again under the same incident id,
which is also the name of what it starts. One watch per fleet database.

Ports: :class:`BaselineSource`, :class:`IncidentSink`, :class:`ReportSink`, each with the fake that ships.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from cloud.drift.assembly import Batch, Stretch, batches, observed
from cloud.drift.decision import decide
from cloud.drift.journal import Incident, Journal, retention_start
from cloud.drift.judgement import DEFAULT_LIMITS, DriftDecision, DriftLimits, Observed
from cloud.drift.report import STATISTICS_FILE, VIOLATIONS_FILE, statistics, violations
from cloud.errors import EdgewrightError, NotFoundError
from edge_component.contracts.baseline import Baseline


class BaselineUnknownError(NotFoundError):
    """No published bundle carries this baseline; the windows that name it wait."""

    code = "baseline-unknown"


class BaselineDamagedError(EdgewrightError):
    """The baseline's bytes are not what its id says; the windows that name it wait, since nothing can judge them."""

    code = "baseline-damaged"


class BaselineSource(Protocol):
    """Where published baselines are."""

    def baseline(self, baseline_id: str) -> Baseline:
        """The baseline of that id.

        Raises:
            BaselineUnknownError: nothing of that id was published.
            BaselineDamagedError: other bytes lie under that id.
            UnavailableError: could not look.
        """


class IncidentSink(Protocol):
    """Who is told that a model must be replaced."""

    def announce(self, incident: Incident) -> None:
        """Tell; at least once, under the incident's id.

        Raises:
            UnavailableError: nobody may have heard.
        """


class ReportSink(Protocol):
    """Where reports lie."""

    def write(self, name: str, data: bytes) -> None:
        """Write one file; ``name`` is a relative path; the same name is overwritten.

        Raises:
            UnavailableError: it was not written.
        """


@dataclass(slots=True)
class MemoryBaselines:
    """The fake: ``known`` by id; those in ``damaged`` are refused."""

    known: dict[str, Baseline] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)

    def baseline(self, baseline_id: str) -> Baseline:
        """See :class:`BaselineSource`."""
        if baseline_id in self.damaged:
            raise BaselineDamagedError(f"baseline {baseline_id[:12]} holds other bytes", "Publish the model again.")
        if baseline_id not in self.known:
            raise BaselineUnknownError(f"no baseline {baseline_id[:12]}", "Publish the bundle that carries it.")
        return self.known[baseline_id]


@dataclass(slots=True)
class MemoryIncidents:
    """The fake: what was announced, in order."""

    announced: list[Incident] = field(default_factory=list)

    def announce(self, incident: Incident) -> None:
        """See :class:`IncidentSink`."""
        self.announced.append(incident)


@dataclass(slots=True)
class MemoryReports:
    """The fake: files by name."""

    files: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, data: bytes) -> None:
        """See :class:`ReportSink`."""
        self.files[name] = data


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """How the watch paces itself.

    Attributes:
        interval_s: from the end of one pass to the start of the next.
        settle_s: how long a complete window waits for its peers of the same time.
        retention_s: how long windows are kept.
        forget_every_s: how often old windows are looked for.
    """

    interval_s: float = 2.0
    settle_s: float = 2.0
    retention_s: float = 30 * 86_400.0
    forget_every_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where the watch's findings go."""

    incidents: IncidentSink
    reports: ReportSink


class DriftWatch:
    """Judges windows. Not thread-safe; one thread drives it."""

    def __init__(
        self,
        journal: Journal,
        baselines: BaselineSource,
        sinks: Sinks,
        clock: Callable[[], datetime],
        limits: WatchLimits,
        drift_limits: DriftLimits = DEFAULT_LIMITS,
    ) -> None:
        """``clock`` gives UTC; nothing is read until a pass."""
        self._journal = journal
        self._baselines = baselines
        self._sinks = sinks
        self._clock = clock
        self._limits = limits
        self._drift_limits = drift_limits
        self._forgot_at: datetime | None = None

    def pass_once(self) -> tuple[DriftDecision, ...]:
        """Judge every batch of windows that is complete and settled; announce what must be; returns the decisions.

        Windows whose baseline is unknown or damaged stay where they are; the rest is judged, and then the error is raised:
        one model's missing object must not blind the watch to all the others.

        Raises:
            BaselineUnknownError, BaselineDamagedError, UnavailableError: what could not be done stays to be done.
        """
        now = self._clock()
        decisions: list[DriftDecision] = []
        unjudged: BaselineUnknownError | BaselineDamagedError | None = None
        for stretch, windows in self._journal.waiting(now - timedelta(seconds=self._limits.settle_s)).items():
            try:
                cut = batches(windows, self._drift_limits.record_count_min)
                decisions.extend(self._judge(stretch, batch, now) for batch in cut)
            except (BaselineUnknownError, BaselineDamagedError) as error:
                unjudged = error
        for incident in self._journal.unannounced():
            self._sinks.incidents.announce(incident)
            self._journal.mark_announced(incident, now)
        self._forget(now)
        if unjudged is not None:
            raise unjudged
        return tuple(decisions)

    def run(self, stop: threading.Event, report: Callable[[EdgewrightError | None], None]) -> None:
        """Pass until ``stop`` is set; ``report`` hears each new failure once, and ``None`` when it is over."""
        last = ""
        while not stop.is_set():
            try:
                self.pass_once()
                if last:
                    report(None)
                last = ""
            except EdgewrightError as error:
                if str(error) != last:
                    report(error)
                last = str(error)
            stop.wait(self._limits.interval_s)

    def _judge(self, stretch: Stretch, batch: Batch, now: datetime) -> DriftDecision:
        baseline = self._baselines.baseline(stretch.baseline_id)
        window = observed(batch.windows)
        peers = observed(self._journal.peers(stretch, batch))
        decision = decide(window, baseline, peers, self._journal.streaks(stretch), limits=self._drift_limits)
        if decision.level in {"warn", "alarm"}:
            self._report(stretch, batch, window, baseline, decision)
        self._journal.record(stretch, batch, decision, now)
        return decision

    def _report(
        self, stretch: Stretch, batch: Batch, window: Observed, baseline: Baseline, decision: DriftDecision
    ) -> None:
        folder = f"{stretch.model_name}/{stretch.version}/{stretch.thing_name}/{batch.ends_at:%Y-%m-%dT%H-%M-%S.%fZ}"
        self._write(f"{folder}/{STATISTICS_FILE}", statistics(window, baseline))
        self._write(f"{folder}/{VIOLATIONS_FILE}", violations(decision, self._drift_limits))

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        self._sinks.reports.write(name, json.dumps(document, indent=1, allow_nan=False).encode())

    def _forget(self, now: datetime) -> None:
        if self._forgot_at and now - self._forgot_at < timedelta(seconds=self._limits.forget_every_s):
            return
        self._journal.forget_windows(retention_start(now, self._limits.retention_s))
        self._forgot_at = now
