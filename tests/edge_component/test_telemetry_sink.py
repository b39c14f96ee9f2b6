"""The shield between serving and telemetry: whatever is wrong behind it, nothing is raised in front of it."""

from typing import Any

import pytest

from edge_component.contracts.activation import ActivationEvent
from edge_component.contracts.heartbeat import ModelRef, OutboxState
from edge_component.telemetry_sink import ShieldedSink
from tests.edge_component.inference.test_session import MANIFEST


class Broken:
    """Every method fails."""

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: object) -> None:
            raise RuntimeError(name)

        return fail


def test_a_broken_telemetry_fails_for_nobody_and_is_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    shielded = ShieldedSink(Broken())  # type: ignore[arg-type]
    shielded.activation(ActivationEvent("a", "refused", "m", None, None, "store", "store-full", "no room left"))
    shielded.model_switched(ModelRef("m", "1.0.0", "0" * 64), None, MANIFEST)
    shielded.stop()
    assert (shielded.flush(), shielded.outbox_state()) == (0, OutboxState())
    assert sum("telemetry could not" in message for message in caplog.messages) == 5
