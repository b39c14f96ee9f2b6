"""An event of an AWS service, and the port through which the local cloud's services emit it.

:mod:`simulator.aws.events` (EventBridge) is what listens in a running cloud; :class:`InMemoryEvents` stands in for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, as EventBridge's rules match it.

    Attributes:
        source: such as ``aws.sagemaker``.
        detail_type: such as ``SageMaker Training Job State Change``.
        detail: a JSON object.
        resources: ARNs.
        bus: name of the event bus.
    """

    source: str
    detail_type: str
    detail: Mapping[str, Any]
    resources: tuple[str, ...] = ()
    bus: str = "default"


class EventSink(Protocol):
    """Takes events; never blocks for long and never raises."""

    def emit(self, event: Event) -> None:
        """Deliver it to whatever rule matches, later and on another thread."""


@dataclass(slots=True)
class InMemoryEvents:
    """Keeps what was emitted.

    Attributes:
        emitted: in order; tests read it.
    """

    emitted: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Keep it."""
        self.emitted.append(event)
