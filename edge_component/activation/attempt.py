"""One attempt to change what is served, while it lasts, and the event that tells of it afterwards."""

import uuid
from dataclasses import dataclass, field

from edge_component.clock import Clock
from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.limits import LIMITS
from edge_component.errors import ActivationDeadlineError, DeviceError

FOREVER_S = float("inf")


@dataclass(slots=True)
class Attempt:
    """Grows as more becomes known; written by the one thread that makes the attempt."""

    clock: Clock
    model_name: str
    allowed_s: float = FOREVER_S
    candidate: ModelRef | None = None
    phase: str = "receive"
    attempt_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        """The clock starts now."""
        self.started_s = self.clock.monotonic_s()

    def at_phase(self, phase: str) -> None:
        """It has come this far."""
        self.phase = phase

    def left_s(self) -> float:
        """Of what the caller allows; negative when time is up."""
        return self.started_s + self.allowed_s - self.clock.monotonic_s()

    def check_time(self) -> None:
        """Raise ActivationDeadlineError when time is up."""
        if self.left_s() <= 0:
            raise ActivationDeadlineError(f"not done after {self.allowed_s:g} s; it was in phase {self.phase}")

    def event(
        self, outcome: str, serving: ModelRef | None, error: DeviceError | None = None, told: str = ""
    ) -> ActivationEvent:
        """What came of it; see :class:`ActivationEvent` for ``outcome``; ``told`` where there is no error to speak for itself."""
        return ActivationEvent(
            attempt_id=self.attempt_id,
            outcome=outcome,
            model_name=self.model_name,
            candidate=self.candidate,
            serving=serving,
            phase=self.phase,
            code=error.code if error is not None else "",
            message=(str(error) if error is not None else told)[: LIMITS.text_chars_max],
            duration_ms=int((self.clock.monotonic_s() - self.started_s) * 1000),
        )
