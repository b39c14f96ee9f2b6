"""For tests: a sink of windows, and a model with a plan of what is watched."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Feature, GoldenTest, Manifest, TensorSpec, WatchedOutput
from edge_component.contracts.telemetry import (
    TelemetryWindow,
)
from edge_component.telemetry.columns import WatchPlan
from edge_component.telemetry.errors import OutboxDiskError

AT = datetime(2026, 3, 1, tzinfo=UTC)

V1, V2, V3 = (ModelRef("weather", f"1.{n}.0", str(n) * 64) for n in range(3))


@dataclass
class Windows:
    """A sink that can be made to fail."""

    taken: list[TelemetryWindow] = field(default_factory=list)
    is_full: bool = False

    def append(self, kind: str, body: Any) -> int:
        assert kind == "window"
        if self.is_full:
            raise OutboxDiskError("No space left on device")
        self.taken.append(TelemetryWindow.read(body))
        return len(self.taken)

    def of(self, model: ModelRef) -> list[TelemetryWindow]:
        return [window for window in self.taken if window.model == model]


def column(name: str, edges: list[float] | None = None) -> BaselineColumn:
    inner = edges or [float(edge) for edge in np.linspace(-3, 3, BIN_COUNT - 1)]
    return BaselineColumn(name, tuple(inner), (0,) * BIN_COUNT, inner[0], inner[-1])


def manifest(features: int = 2, width: int = -1, outputs: tuple[WatchedOutput, ...] = ()) -> Manifest:
    return Manifest(
        "com.edgewright.model.Weather", "weather", "1.0.0", 1, "linux/x86_64", AT, AT, "fp32", {"": 17},
        (TensorSpec("input", "float32", (width, features)),),
        (TensorSpec("probability", "float32", (-1, 2)), TensorSpec("label", "int64", (-1,))),
        {}, GoldenTest(0, 0),
        tuple(Feature(f"f{n}", "input", n) for n in range(features)),
        outputs or (WatchedOutput("p1", "probability", 1, "probability"), WatchedOutput("label", "label", 0, "label")),
    )  # fmt: skip


def plan(model: ModelRef = V1, features: int = 2) -> WatchPlan:
    baseline = Baseline("weather", 1, tuple(column(f"f{n}") for n in range(features)), (column("p1"),))
    return WatchPlan.of(model, manifest(features), baseline, "b" * 64)


def answer(rows: int) -> dict[str, np.ndarray]:
    return {"probability": np.full((rows, 2), 0.5, np.float32), "label": np.ones(rows, np.int64)}


def rows(*values: tuple[float, ...]) -> dict[str, np.ndarray]:
    return {"input": np.array(values, np.float32)}
