"""The loop from telemetry windows to a retraining: judge what is new, store it, report it, announce, see what came of it.

The shell around ``assembly``, ``decision`` and ``attempts``. The order is judge → report → record → announce → follow: a
crash repeats a judgement with the same outcome, and an announcement that may have been lost is sent again under the same
incident id, which is also the name of what it starts. One watch per fleet database. Ports: ``ports``.
"""

import json
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cloud.drift.assembly import Batch, Stretch, WholeWindow, batches, observed
from cloud.drift.attempts import AttemptLimits, next_attempt, outcome
from cloud.drift.decision import decide
from cloud.drift.incidents import Incidents
from cloud.drift.journal import Journal
from cloud.drift.judgement import DEFAULT_LIMITS, DriftDecision, DriftLimits, Observed
from cloud.drift.ports import BaselineDamagedError, BaselineUnknownError, WatchPorts
from cloud.drift.report import STATISTICS_FILE, VIOLATIONS_FILE, statistics, violations
from cloud.errors import EdgewrightError
from cloud.fleet.database import Database
from edge_component.contracts.baseline import Baseline

log = logging.getLogger(__name__)

CLOCKS_APART = timedelta(minutes=5)
"""How far this machine's clock may be from that of Step Functions: an execution is looked for from so long before its
announcement."""


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """How the watch paces itself.

    Attributes:
        interval_s: from the end of one pass to the start of the next.
        settle_s: how long a complete window waits for its peers of the same time.
        stretch_count_max, batch_count_max: devices judged in one pass, and judgements of each: what is announced, and what
            becomes of it, waits no longer than that, however much was not judged for a while.
        baseline_again_s: after which a baseline that was not there, or damaged, is looked for again.
        unjudged_again_s: after which what a defect kept from being judged is tried again.
        follow_every_s: how often Step Functions is asked what became of a pending attempt.
        attempts: how often a model version is retrained.
    """

    interval_s: float = 2.0
    settle_s: float = 2.0
    stretch_count_max: int = 500
    batch_count_max: int = 10
    baseline_again_s: float = 60.0
    unjudged_again_s: float = 60.0
    follow_every_s: float = 10.0
    attempts: AttemptLimits = field(default_factory=AttemptLimits)


class UnjudgedError(EdgewrightError):
    """A defect of ours, met with what one device sent of one model; its windows wait."""

    code = "unjudged"


@dataclass(frozen=True, slots=True)
class _Missing:
    """A baseline that nothing can be judged by: why, and when it is looked for again."""

    error: BaselineUnknownError | BaselineDamagedError
    again_at: datetime


@dataclass(frozen=True, slots=True)
class _Unjudged:
    """Whom a defect keeps from being judged: it is not in the way of the others."""

    error: UnjudgedError
    again_at: datetime


class DriftWatch:
    """Judges windows. Not thread-safe; one thread drives it."""

    def __init__(
        self,
        database: Database,
        ports: WatchPorts,
        clock: Callable[[], datetime],
        limits: WatchLimits,
        drift_limits: DriftLimits = DEFAULT_LIMITS,
    ) -> None:
        """``clock`` gives UTC; nothing is read until a pass. The database is borrowed."""
        self._journal = Journal(database)
        self._incidents = Incidents(database)
        self._ports = ports
        self._clock = clock
        self._limits = limits
        self._drift_limits = drift_limits
        self._missing: dict[str, _Missing] = {}
        self._unjudged: dict[Stretch, _Unjudged] = {}
        self._followed_at: datetime | None = None

    def pass_once(self, stop: threading.Event | None = None) -> tuple[DriftDecision, ...]:
        """Judge windows that are complete and settled, as far as one pass goes; announce what must be; returns the decisions.

        Nothing more is judged once ``stop`` is set.

        Windows whose baseline is unknown or damaged stay where they are, unread, until it is there; the rest is judged, and
        then the error is raised: one model's missing object must not blind the watch to all the others.

        Raises:
            BaselineUnknownError, BaselineDamagedError, UnjudgedError, UnavailableError: what could not be done stays to be
                done.
        """
        now = self._clock()
        decisions: list[DriftDecision] = []
        self._missing = {each: known for each, known in self._missing.items() if self._journal.waits_for(each)}
        missing = {each: known.error for each, known in self._missing.items() if now < known.again_at}
        self._unjudged = {each: known for each, known in self._unjudged.items() if now < known.again_at}
        put_off = (*missing.values(), *(known.error for known in self._unjudged.values()))
        unjudged: EdgewrightError | None = next(iter(put_off), None)
        for stretch, batch in self._due(now, missing):
            if stop is not None and stop.is_set():
                break
            if stretch in self._unjudged:
                continue
            try:
                decisions.append(self._judge(stretch, batch, now))
            except (BaselineUnknownError, BaselineDamagedError) as error:
                unjudged = unjudged or error
            except EdgewrightError:
                raise
            except Exception as error:  # noqa: BLE001 - it would keep every model after this one from being judged
                known = _unjudged(stretch, error, now + timedelta(seconds=self._limits.unjudged_again_s))
                unjudged = unjudged or known.error
                self._unjudged[stretch] = known
        for incident in self._incidents.unannounced():
            self._ports.incidents.announce(incident)
            self._incidents.mark_announced(incident, now)
        self._follow(now)
        if unjudged is not None:
            raise unjudged.with_traceback(None)  # a remembered one would grow by some lines each time
        return tuple(decisions)

    def run(self, stop: threading.Event, report: Callable[[EdgewrightError | None], None]) -> None:
        """Pass until ``stop`` is set; ``report`` hears each new failure once, and ``None`` when it is over."""
        last = ""
        while not stop.is_set():
            try:
                self.pass_once(stop)
                if last:
                    report(None)
                last = ""
            except EdgewrightError as error:
                if str(error) != last:
                    report(error)
                last = str(error)
            stop.wait(self._limits.interval_s)

    def _due(self, now: datetime, missing: Collection[str]) -> list[tuple[Stretch, Batch]]:
        """What is judged in this pass, in the order of time: neighbours in it have the same peers."""
        until, record_count_min = now - timedelta(seconds=self._limits.settle_s), self._drift_limits.record_count_min
        record_count_max = record_count_min * self._limits.batch_count_max
        stretch_count_max = self._limits.stretch_count_max + len(self._unjudged)
        due = [
            (stretch, batch)
            for stretch in self._journal.ready(until, record_count_min, stretch_count_max, missing)
            if stretch not in self._unjudged
            for batch in batches(self._journal.waiting(stretch, until, record_count_max), record_count_min)
        ]
        return sorted(due, key=lambda one: one[1].ends_at)

    def _judge(self, stretch: Stretch, batch: Batch, now: datetime) -> DriftDecision:
        baseline = self._baseline(stretch.baseline_id, now)
        window = self._observed(batch.windows)
        peers = self._observed(self._journal.peers(stretch, batch))
        decision = decide(window, baseline, peers, self._journal.streaks(stretch), limits=self._drift_limits)
        if decision.level in {"warn", "alarm"}:
            self._report(stretch, batch, window, baseline, decision)
        self._journal.record(stretch, batch, decision, now, self._attempt_for(stretch, decision, now))
        return decision

    def _baseline(self, baseline_id: str, now: datetime) -> Baseline:
        """The baseline; one that another device's windows have just missed is not looked for again."""
        missing = self._missing.get(baseline_id)
        if missing is not None and now < missing.again_at:
            raise missing.error
        try:
            found = self._ports.baselines.baseline(baseline_id)
        except (BaselineUnknownError, BaselineDamagedError) as error:
            self._missing[baseline_id] = _Missing(error, now + timedelta(seconds=self._limits.baseline_again_s))
            raise
        self._missing.pop(baseline_id, None)
        return found

    def _observed(self, windows: Sequence[WholeWindow]) -> Observed:
        return observed(windows, self._journal.parts(windows))

    def _attempt_for(self, stretch: Stretch, decision: DriftDecision, now: datetime) -> int | None:
        """The number of the retraining that a decision asks for, if it may have one."""
        if decision.action != "retrain":
            return None
        last = self._incidents.last_attempt(stretch.model_name, stretch.version)
        return next_attempt(last, now, self._limits.attempts)

    def _follow(self, now: datetime) -> None:
        """See what became of every pending attempt, and say it once."""
        if self._followed_at and now - self._followed_at < timedelta(seconds=self._limits.follow_every_s):
            return
        for attempt in self._incidents.pending():
            since = (attempt.announced_at or now) - CLOCKS_APART
            executions = self._ports.executions.executions(attempt.model_name, since)
            news = outcome(attempt, executions, now, self._limits.attempts)
            if news is not None:
                self._incidents.record_outcome(attempt, news, now)
                if news.sentence:
                    log.log(logging.INFO if news.state == "succeeded" else logging.WARNING, "%s", news.sentence)
        self._followed_at = now

    def _report(
        self, stretch: Stretch, batch: Batch, window: Observed, baseline: Baseline, decision: DriftDecision
    ) -> None:
        folder = f"{stretch.model_name}/{stretch.version}/{stretch.thing_name}/{batch.ends_at:%Y-%m-%dT%H-%M-%S.%fZ}"
        self._write(f"{folder}/{STATISTICS_FILE}", statistics(window, baseline))
        self._write(f"{folder}/{VIOLATIONS_FILE}", violations(decision, self._drift_limits))

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        self._ports.reports.write(name, json.dumps(document, indent=1, allow_nan=False).encode())


def _unjudged(stretch: Stretch, error: Exception, again_at: datetime) -> _Unjudged:
    whose = f"{stretch.model_name} {stretch.version} on {stretch.thing_name}"
    told = UnjudgedError(f"{whose} cannot be judged: {error!r}", "Report this; everything else is judged.")
    told.__cause__ = error
    return _Unjudged(told, again_at)
