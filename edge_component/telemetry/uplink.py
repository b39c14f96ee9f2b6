"""The uplink: carries the outbox's messages through the nucleus, and waits politely while there is no way.

The failure this exists for: a device that is offline and spends its battery, its log and its nucleus on attempts. While
publishes fail, one message is tried at growing, jittered intervals; when one gets through, the rest follows at once.
What is logged is the transition, not the attempt. And its opposite: one message that the nucleus refuses for what it is,
which would hold up all the others for ever; it is set aside after a few refusals in a row, counted and logged.

:func:`decide` is pure; :class:`Uplink` is a thread around :meth:`Uplink.step`. Not the store (``outbox``) and not the
connection (``nucleus``).
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from edge_component.backoff import Backoff
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.errors import ContractError
from edge_component.contracts.topics import DEFAULT_RULE, Address, basic_ingest_topic
from edge_component.errors import NucleusRefusedError, NucleusUnavailableError, OutboxDiskError
from edge_component.telemetry.outbox import Outbox, Queued

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UplinkLimits:
    """How hard the uplink tries.

    Attributes:
        backoff: between two attempts while there is no way.
        batch_count: messages sent between two durable acknowledgements; at most so many are repeated after a crash.
        refusals_max: refusals of one and the same message before it is set aside.
        idle_s: how long to wait for a message before looking again.
    """

    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 300.0))
    batch_count: int = 16
    refusals_max: int = 5
    idle_s: float = 60.0


class Outcome(Enum):
    """What became of one publish."""

    SENT = "sent"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class UplinkState:
    """Between two publishes.

    Attributes:
        failures_count: in a row.
        refusals_count: of the message at the head, in a row.
        set_aside_count: messages given up as refused since the process started.
    """

    failures_count: int = 0
    refusals_count: int = 0
    set_aside_count: int = 0

    @property
    def is_online(self) -> bool:
        """Whether the last publish got through, as far as anybody knows."""
        return self.failures_count == 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an outcome: the next state, whether the message is done with, and how long to wait."""

    state: UplinkState
    is_done: bool
    wait_s: float


def decide(state: UplinkState, outcome: Outcome, limits: UplinkLimits, random: Callable[[], float]) -> Decision:
    """Decide after one publish; ``random`` gives a float in [0, 1)."""
    if outcome is Outcome.SENT:
        return Decision(replace(state, failures_count=0, refusals_count=0), is_done=True, wait_s=0.0)
    refusals_count = state.refusals_count + 1 if outcome is Outcome.REFUSED else state.refusals_count
    if refusals_count >= limits.refusals_max:
        aside = UplinkState(0, 0, state.set_aside_count + 1)
        return Decision(aside, is_done=True, wait_s=0.0)
    failed = UplinkState(state.failures_count + 1, refusals_count, state.set_aside_count)
    return Decision(failed, is_done=False, wait_s=limits.backoff.wait_s(failed.failures_count, random))


class Publisher(Protocol):
    """What the uplink needs of a nucleus; see ``nucleus_port.Nucleus``."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at least once; raises ``NucleusUnavailableError`` or ``NucleusRefusedError``."""


class Uplink:
    """Drains one outbox; :meth:`start` runs it on a thread of its own, tests call :meth:`step`."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        random: Callable[[], float],
        rule: str = DEFAULT_RULE,
        limits: UplinkLimits | None = None,
    ) -> None:
        """Nothing is sent before :meth:`start` or :meth:`step`. ``random`` gives a float in [0, 1)."""
        self._outbox = outbox
        self._publisher = publisher
        self._random = random
        self._rule = rule
        self._limits = limits or UplinkLimits()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self.state = UplinkState()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def use_rule(self, rule: str) -> None:
        """Publish through another topic rule from now on."""
        self._rule = rule

    def retry_now(self) -> None:
        """Somebody knows that there is a way again (the nucleus reconnected): end the current wait."""
        self._outbox.wake()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop after the publish under way; what was not sent stays in the outbox."""
        self._stopping.set()
        self._outbox.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def step(self) -> float | None:
        """Send a batch; returns how long to wait in seconds before the next step, ``None`` if the outbox is empty."""
        batch = self._outbox.oldest(self._limits.batch_count if self.state.is_online else 1)
        if not batch:
            return None
        done: Queued | None = None
        wait_s = 0.0
        for queued in batch:
            decision = self._attempt(queued)
            if decision.is_done:
                done = queued
            wait_s = decision.wait_s
            if not decision.is_done or self._stopping.is_set():
                break
        if done is not None:
            self._outbox.acknowledge(done)
        return wait_s

    def _attempt(self, queued: Queued) -> Decision:
        before = self.state
        outcome, why = self._publish(queued)
        decision = decide(before, outcome, self._limits, self._random)
        self.state = decision.state
        if before.is_online and not decision.state.is_online:
            logger.warning("uplink: no way to the cloud, messages wait in the outbox: %s", why)
        elif decision.is_done and outcome is Outcome.REFUSED:
            logger.error("uplink: set a message aside after %d refusals: %s", self._limits.refusals_max, why)
        elif not before.is_online and decision.state.is_online:
            logger.info("uplink: there is a way to the cloud again")
        return decision

    def _publish(self, queued: Queued) -> tuple[Outcome, str]:
        try:
            message = Envelope.from_bytes(queued.payload)
            topic = basic_ingest_topic(Address(message.thing_name, message.kind), self._rule)
            self._publisher.publish(topic, queued.payload)
        except NucleusUnavailableError as error:
            return Outcome.UNAVAILABLE, str(error)
        except (NucleusRefusedError, ContractError) as error:
            return Outcome.REFUSED, str(error)
        return Outcome.SENT, ""

    def _run(self) -> None:
        while not self._stopping.is_set():
            mark = self._outbox.mark()
            try:
                wait_s = self.step()
            except OutboxDiskError as error:
                logger.warning("uplink: %s", error)
                wait_s = self._limits.backoff.s_min
            if wait_s is None:
                self._outbox.wait_for_arrival(mark, self._limits.idle_s)
            elif wait_s:
                # An arrival is no reason to try again sooner; only a stop or retry_now() is.
                self._outbox.wait_for_wake(mark, wait_s)
