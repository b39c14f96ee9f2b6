"""The outbox drains through awsiot's client and a nucleus that is offline, comes back, dies in mid-drain and returns."""

from collections.abc import Callable

import pytest

from edge_component.backoff import Backoff
from edge_component.contracts.envelope import Envelope
from edge_component.telemetry.uplink import Uplink, UplinkLimits
from tests.conformance.nucleus_port.conftest import IpcWorld, eventually, make_ipc_world
from tests.edge_component.telemetry.conftest import OpenOutbox

__all__ = ["make_ipc_world"]

MakeWorld = Callable[..., IpcWorld]
LIMITS = UplinkLimits(backoff=Backoff(0.02, 0.1))


def sequences(world: IpcWorld) -> list[int]:
    return [Envelope.from_bytes(payload).sequence for _, payload in world.published()]


@pytest.mark.parametrize("outage", ["offline", "no nucleus"])
def test_an_outage_loses_nothing_and_ends_by_itself(
    make_ipc_world: MakeWorld, open_outbox: OpenOutbox, outage: str
) -> None:
    world, outbox = make_ipc_world(), open_outbox()
    uplink = Uplink(outbox, world.nucleus, lambda: 0.5, limits=LIMITS)
    if outage == "offline":
        world.set_online(False)
    else:
        world.lose_connection()
    uplink.start()
    for number in range(60):
        outbox.append("heartbeat" if number % 2 else "window", {"pad": "x" * 3_000})
    eventually(lambda: uplink.state.failures_count > 3, "tried and failed a few times")
    assert outbox.state().queued_count == 60
    if outage == "offline":
        world.set_online(True)
    else:
        world.restore_connection()
    eventually(lambda: outbox.state().queued_count == 0, "drained")
    uplink.stop()
    assert sequences(world) == list(range(1, 61))


def test_a_nucleus_that_dies_in_mid_drain_costs_at_most_repetitions(
    make_ipc_world: MakeWorld, open_outbox: OpenOutbox
) -> None:
    world, outbox = make_ipc_world(), open_outbox()
    uplink = Uplink(outbox, world.nucleus, lambda: 0.5, limits=LIMITS)
    world.nucleus.on_connection(lambda is_connected: uplink.retry_now() if is_connected else None)
    uplink.start()
    for turn in range(5):
        for _ in range(40):
            outbox.append("heartbeat", {"pad": "x" * 1_000})
        eventually(lambda: len(world.published()) > 40 * turn + 5, "under way")  # noqa: B023 - called at once
        world.drop_connections()
    eventually(lambda: outbox.state().queued_count == 0, "drained")
    uplink.stop()
    assert set(sequences(world)) == set(range(1, 201))
    assert outbox.state().dropped_count == 0
