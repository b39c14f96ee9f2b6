"""What the drift watch needs of the world, as small ports, each with the fake that ships.

The real ends are ``cloud.aws.publications``, ``cloud.aws.events``, ``cloud.aws.reports`` and ``cloud.aws.state_machines``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cloud.drift.attempts import Execution
from cloud.drift.incidents import Incident
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


class ExecutionSource(Protocol):
    """What became of the state machines that retrain."""

    def executions(self, model_name: str, since: datetime) -> Iterable[Execution]:
        """Executions of a model's machine that started at ``since`` or later; none where there is no machine.

        Raises:
            UnavailableError: could not look.
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


@dataclass(slots=True)
class MemoryExecutions:
    """The fake: ``known`` by model name."""

    known: dict[str, list[Execution]] = field(default_factory=dict)

    def executions(self, model_name: str, since: datetime) -> Iterable[Execution]:
        """See :class:`ExecutionSource`."""
        return [one for one in self.known.get(model_name, ()) if one.started_at >= since]


@dataclass(frozen=True, slots=True)
class WatchPorts:
    """Everything that the watch reaches beside its own store."""

    baselines: BaselineSource
    incidents: IncidentSink
    reports: ReportSink
    executions: ExecutionSource
