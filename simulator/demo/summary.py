"""What a demo run amounts to: the figures it ends with, as JSON for scripts and as sentences for people.

Pure: values in, documents and lines out. Nothing here knows how the figures came about (story.py does).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Predictions:
    """Requests that the stations' applications made; ``failed`` is what they saw after the client's own retries."""

    answered: int = 0
    failed: int = 0

    def __add__(self, other: "Predictions") -> "Predictions":
        """Count both."""
        return Predictions(self.answered + other.answered, self.failed + other.failed)


@dataclass(frozen=True, slots=True)
class DeviceOutcome:
    """One device at the end: every process id its runtime was ever seen with, and what it serves."""

    thing_name: str
    runtime_process_ids: tuple[int, ...]
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class DriftOutcome:
    """One decision on one window of one device, as the fleet API gives it."""

    thing_name: str
    window: str
    decision: str
    sentence: str


@dataclass(frozen=True, slots=True)
class RetrainOutcome:
    """The retraining that drift led to; ``before`` and ``after`` are the metric on the same held-out stretch."""

    training_job_arn: str
    metric: str
    before: float
    after: float
    version: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that a device would not serve, and its reason in the device's own words."""

    version: str
    thing_name: str
    reason: str


@dataclass(slots=True)
class Summary:
    """Collects while the demo runs; one writer, the story's thread."""

    predictions: Predictions = Predictions()
    devices: list[DeviceOutcome] = field(default_factory=list)
    drift: list[DriftOutcome] = field(default_factory=list)
    retrain: RetrainOutcome | None = None
    refused: list[Refusal] = field(default_factory=list)
    phases_s: dict[str, float] = field(default_factory=dict)

    def to_document(self) -> Mapping[str, Any]:
        """What ``--summary FILE`` holds."""
        return {
            "predictions": {"answered": self.predictions.answered, "failed": self.predictions.failed},
            "devices": [
                {
                    "thing_name": device.thing_name,
                    "runtime_process_ids": list(device.runtime_process_ids),
                    "serving": {"model": device.model, "version": device.version},
                }
                for device in self.devices
            ],
            "drift": [
                {
                    "thing_name": found.thing_name,
                    "window": found.window,
                    "decision": found.decision,
                    "sentence": found.sentence,
                }
                for found in self.drift
            ],
            "retrain": None
            if self.retrain is None
            else {
                "training_job_arn": self.retrain.training_job_arn,
                "metric": self.retrain.metric,
                "before": self.retrain.before,
                "after": self.retrain.after,
                "version": self.retrain.version,
            },
            "refused": [
                {"version": refusal.version, "thing_name": refusal.thing_name, "reason": refusal.reason}
                for refusal in self.refused
            ],
            "phases_s": {name: round(seconds, 1) for name, seconds in self.phases_s.items()},
        }

    def sentences(self) -> Iterator[str]:
        """What happened, for a person; one sentence a line."""
        yield f"{self.predictions.answered:,} predictions answered, {self.predictions.failed} failed."
        for device in self.devices:
            processes = len(device.runtime_process_ids)
            kept = "one runtime process throughout" if processes == 1 else f"{processes} runtime processes"
            yield f"{device.thing_name} serves {device.model} {device.version}, {kept} ({_ids(device)})."
        alarms = [found for found in self.drift if found.decision not in {"none", "insufficient"}]
        if alarms:
            asking = next((found for found in alarms if found.decision == "retrain"), None)
            which = "the one that asked for a retraining" if asking else "the first"
            yield f"{len(alarms)} windows were flagged; {which}: {(asking or alarms[0]).sentence}"
        if self.retrain is not None:
            yield (
                f"Retrained as {self.retrain.version}: {self.retrain.metric} "
                f"{self.retrain.before:.3f} before, {self.retrain.after:.3f} after, on the same held-out stretch."
            )
        for refusal in self.refused:
            yield f"{refusal.thing_name}: {refusal.reason}"

    def holds(self) -> bool:
        """Whether the run showed what the demo promises."""
        return (
            self.predictions.answered > 0
            and self.predictions.failed == 0
            and bool(self.devices)
            and all(len(device.runtime_process_ids) == 1 for device in self.devices)
            and self.retrain is not None
            and self.retrain.after < self.retrain.before
            and bool(self.refused)
        )


def _ids(device: DeviceOutcome) -> str:
    return ", ".join(map(str, device.runtime_process_ids))
