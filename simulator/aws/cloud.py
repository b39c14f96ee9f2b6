"""What a service module of the local cloud plugs into: ``install(cloud)`` receives a :class:`Cloud`.

Not the server (:mod:`simulator.aws.server`) and not the request path (:mod:`simulator.aws.front`).
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from moto.core.request import Request
from werkzeug.wrappers import Response

from simulator.aws.bus import InMemoryBus, MessageBus
from simulator.aws.event import EventSink, InMemoryEvents
from simulator.aws.operations import Operations

ACCOUNT_ID = "123456789012"
REGION = "us-east-1"


def utc_now() -> datetime:
    """Now, aware of its zone."""
    return datetime.now(UTC)


DeviceDoor = Callable[[Request], Response | None]
"""Answers an unsigned request of a device, or ``None`` if the request is not one for it."""


@dataclass(slots=True)
class Cloud:
    """The register of operations, the bus, the clock and the life cycle.

    Attributes:
        state_dir: folder for what must be on disk (jobs' working folders); exists.
        bus: how services speak with devices.
        clock: the current time; tests give their own.
        events: where services emit their events, such as a job's change of state; EventBridge takes it over.
        operations: the register that services fill.
        device_doors: who answers unsigned requests, in order; the first that knows the path.
        url: where the local cloud answers; empty until it is bound, set before the ``on_start`` actions run.
        broker_endpoint: ``host:port`` of the MQTT broker; empty where there is none.
        account_id: the one local account.
        region: region of everything that the cloud does by itself.
    """

    state_dir: Path
    bus: MessageBus = field(default_factory=InMemoryBus)
    clock: Callable[[], datetime] = utc_now
    events: EventSink = field(default_factory=InMemoryEvents)
    operations: Operations = field(default_factory=Operations)
    device_doors: list[DeviceDoor] = field(default_factory=list)
    url: str = ""
    broker_endpoint: str = ""
    account_id: str = ACCOUNT_ID
    region: str = REGION
    _start_actions: list[Callable[[], None]] = field(default_factory=list)
    _stop_actions: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    _started_count: int = 0

    def on_start(self, action: Callable[[], None]) -> None:
        """Run an action once the cloud answers; in the order of registration."""
        self._start_actions.append(action)

    def on_stop(self, action: Callable[[], None]) -> None:
        """Run an action before the cloud stops answering; in reverse order. It must end what it started.

        It runs only if the start actions that were registered before it have run.
        """
        self._stop_actions.append((len(self._start_actions), action))

    def started(self) -> None:
        """Run the start actions (the server calls it)."""
        for action in self._start_actions:
            action()
            self._started_count += 1

    def stopping(self) -> None:
        """Run the stop actions of what was started, also after one that raised (the server calls it)."""
        with ExitStack() as stack:
            for needed_count, action in self._stop_actions:
                if self._started_count >= needed_count:
                    stack.callback(action)
