"""The uplink: carries the outbox's messages through the nucleus, and waits politely while there is no way.

The failure this exists for: a device that is offline and spends its battery, its log and its nucleus on attempts. While
publishes fail, one message is tried at growing, jittered intervals; when one gets through, the rest follows at once.
What is logged is the transition, not the attempt. And its opposite: one message that the nucleus refuses for what it is,
which would hold up all the others for ever. After a few refusals the message behind it is tried: if that one gets
through, the first was at fault and is given up, counted; if it is refused too, the fault is elsewhere (a wrong
accessControl, say), nothing is given up, and everything waits for the remedy. What was queued under another thing's name
(a card that was moved, a copied image) is given up at once: AWS IoT takes it from nobody but that thing.

:func:`decide` is pure; :class:`Uplink` is a thread around :meth:`Uplink.step`. Not the store (``outbox``) and not the
connection (``nucleus``).
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from edge_component.backoff import Backoff
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.errors import ContractError
from edge_component.contracts.topics import DEFAULT_RULE, Address, basic_ingest_topic
from edge_component.nucleus_errors import NucleusRefusedError, NucleusUnavailableError
from edge_component.telemetry.errors import OutboxClosedError, OutboxDiskError
from edge_component.telemetry.outbox import Outbox, Queued

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UplinkLimits:
    """How hard the uplink tries.

    Attributes:
        backoff: between two attempts while there is no way. Lite refuses within a millisecond and does not say when
            it is online again, so this is how late the first message comes after an outage.
        batch_count: messages sent between two durable acknowledgements; at most so many are repeated after a crash.
        refusals_max: refusals of one and the same message before the one behind it is tried.
        idle_s: how long to wait for a message before looking again.
    """

    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 30.0))
    batch_count: int = 16
    refusals_max: int = 5
    idle_s: float = 60.0


class Outcome(Enum):
    """What became of one attempt to send the oldest message."""

    SENT = "sent"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    REFUSED_ALONE = "refused, while the message behind it got through"
    UNREADABLE = "no message of ours"


class Action(Enum):
    """What to do with the message that was tried."""

    FORGET = "forget"
    KEEP = "keep"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class UplinkState:
    """Between two attempts: how many have failed in a row, and how many of those were refusals of this message."""

    failures_count: int = 0
    refusals_count: int = 0

    @property
    def is_online(self) -> bool:
        """Whether the last publish got through, as far as anybody knows."""
        return self.failures_count == 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an outcome: the next state, what to do with the message, and how long to wait."""

    state: UplinkState
    action: Action
    wait_s: float = 0.0


def decide(state: UplinkState, outcome: Outcome, limits: UplinkLimits, random: Callable[[], float]) -> Decision:
    """Decide after one attempt; ``random`` gives a float in [0, 1)."""
    if outcome is Outcome.SENT:
        return Decision(UplinkState(), Action.FORGET)
    if outcome is Outcome.REFUSED_ALONE:
        return Decision(UplinkState(), Action.GIVE_UP)
    if outcome is Outcome.UNREADABLE:
        return Decision(state, Action.GIVE_UP)
    refusals_count = state.refusals_count + (outcome is Outcome.REFUSED)
    failed = UplinkState(state.failures_count + 1, refusals_count)
    return Decision(failed, Action.KEEP, limits.backoff.wait_s(failed.failures_count, random))


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
        self._disk_failures_count = 0

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
        """Send a batch; returns how long to wait in seconds before the next step, ``None`` if the outbox is empty.

        Raises:
            OutboxDiskError: what was sent could not be forgotten durably; it may be sent again.
            OutboxClosedError: the outbox is closed.
        """
        batch = self._outbox.oldest(self._limits.batch_count if self.state.is_online else 1)
        if not batch:
            return None
        sent: Queued | None = None
        decision = Decision(self.state, Action.KEEP)
        for queued in batch:
            decision = self._attempt(queued)
            if decision.action is Action.FORGET:
                sent = queued
            if decision.action is Action.GIVE_UP:
                self._outbox.give_up(queued)
            if decision.action is not Action.FORGET or self._stopping.is_set():
                break
        if sent is not None:
            self._outbox.acknowledge(sent)
        return decision.wait_s

    def _attempt(self, queued: Queued) -> Decision:
        before = self.state
        outcome, why = self._send(queued)
        if outcome is Outcome.REFUSED and before.refusals_count + 1 >= self._limits.refusals_max:
            behind = self._outbox.after(queued)
            if behind is not None and self._send(behind)[0] is Outcome.SENT:
                outcome = Outcome.REFUSED_ALONE  # the one behind it stays queued, and is sent once more
        decision = decide(before, outcome, self._limits, self._random)
        self.state = decision.state
        if decision.action is Action.GIVE_UP:
            logger.error("uplink: a message is %s: %s", outcome.value, why)
        if before.is_online and not self.state.is_online:
            logger.warning("uplink: no way to the cloud, messages wait in the outbox: %s", why)
        elif self.state.is_online and not before.is_online:
            logger.info("uplink: there is a way to the cloud again")
        return decision

    def _send(self, queued: Queued) -> tuple[Outcome, str]:
        try:
            message = Envelope.from_bytes(queued.payload)
            if message.thing_name != self._outbox.thing_name:
                return Outcome.UNREADABLE, f"it is from when this device was {message.thing_name}"
            topic = basic_ingest_topic(Address(message.thing_name, message.kind), self._rule)
            self._publisher.publish(topic, queued.payload)
        except ContractError as error:
            return Outcome.UNREADABLE, str(error)
        except NucleusUnavailableError as error:
            return Outcome.UNAVAILABLE, str(error)
        except NucleusRefusedError as error:
            return Outcome.REFUSED, f"{error} {error.remedy}"
        return Outcome.SENT, ""

    def _run(self) -> None:
        while not self._stopping.is_set():
            mark = self._outbox.mark()
            try:
                wait_s = self.step()
                self._disk_failures_count = 0
            except OutboxClosedError:
                return
            except OutboxDiskError as error:
                self._outbox.wait_for_arrival(mark, self._note_disk(error))  # which needs no disk, perhaps
                continue
            except Exception:  # a defect may delay what is sent; it may not end the sending
                logger.exception("uplink: an attempt failed in a way that nobody foresaw")
                wait_s = self._limits.backoff.s_max
            if wait_s is None:
                self._outbox.wait_for_arrival(mark, self._limits.idle_s)
            elif wait_s:
                # An arrival is no reason to try again sooner; only a stop or retry_now() is.
                self._outbox.wait_for_wake(mark, wait_s)

    def _note_disk(self, error: OutboxDiskError) -> float:
        self._disk_failures_count += 1
        if self._disk_failures_count == 1:
            logger.warning("uplink: the outbox cannot be read: %s", error)
        return self._limits.backoff.wait_s(self._disk_failures_count, self._random)
