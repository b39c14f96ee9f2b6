"""The fast path's limits: connections, channels, shared memory, and the time of a run."""

import numpy as np
import pytest

from edge_component.client import BusyError, DeadlineExceededError, RefusedError
from edge_component.contracts.fastpath import MESSAGE_BYTES_MAX, Kind, Open, pack_control, unpack_control
from edge_component.inference.router import Totals
from tests.edge_component.bundle_factory import scale_model
from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.waiting import wait_until


def test_a_deadline_stops_the_run_and_frees_the_thread(door: Door) -> None:
    door.put("1.0.0", endless_model(), name="endless")
    client = door.client()
    with pytest.raises(DeadlineExceededError) as caught:
        client.infer("endless", {"x": ROW}, deadline_s=0.2)
    assert caught.value.code == "deadline-exceeded"
    assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"
    wait_until(lambda: any(record.code == "deadline-exceeded" for record in door.sink.records))
    assert door.router.totals("endless") == Totals(), "a deadline that short says nothing about the model"
    wait_until(lambda: door.listener.connections_count() == 1)


def test_a_run_without_a_deadline_ends_at_the_servers_own(open_door: MakeDoor) -> None:
    door = open_door(run_s_max=0.2, fault_deadline_s=0.2)
    door.put("1.0.0", endless_model(), name="endless")
    with pytest.raises(DeadlineExceededError):
        door.client().infer("endless", {"x": ROW}, deadline_s=30)
    assert door.router.totals("endless") == Totals(0, 1)


def test_connections_beyond_the_limit_are_turned_away_at_once(open_door: MakeDoor) -> None:
    door = open_door(connections_max=2)
    door.scale("1.0.0", 2.0)
    good = [door.client() for _ in range(2)]
    for client in good:
        client.infer("scale", {"x": ROW})
    with pytest.raises(BusyError) as caught:
        door.client().infer("scale", {"x": ROW}, deadline_s=0.2)
    assert caught.value.code == "busy"
    good.pop().close()
    assert door.client().infer("scale", {"x": ROW}).model.version == "1.0.0"


def test_one_client_asks_more_models_than_a_connection_has_channels(open_door: MakeDoor) -> None:
    door = open_door(channels_max=2)
    client = door.client()
    names = ("a", "b", "c", "d")
    for factor, name in enumerate(names):
        door.put("1.0.0", scale_model(float(factor)), name=name)
    for _ in range(2):
        for factor, name in enumerate(names):
            np.testing.assert_array_equal(client.infer(name, {"x": ROW}).outputs["y"], ROW * factor)


def test_a_request_too_large_for_any_channel_is_refused_and_the_others_are_answered(open_door: MakeDoor) -> None:
    door = open_door(channel_bytes_max=1_000_000)
    client = door.client()
    door.scale("1.0.0", 2.0)
    client.infer("scale", {"x": ROW})
    door.put("1.0.0", scale_model(3.0), name="other")
    with pytest.raises(RefusedError) as caught:
        client.infer("other", {"x": np.zeros((100_000, ROW.shape[1]), np.float32)})
    assert caught.value.code == "channel-limit"
    assert client.infer("scale", {"x": ROW}).model.name == "scale"


def test_channels_beyond_the_limit_are_refused(open_door: MakeDoor) -> None:
    door = open_door(channels_max=1)
    door.scale("1.0.0", 2.0)
    with door.greeted() as raw:
        opening = pack_control(Kind.OPEN, Open("scale", {"x": ROW.nbytes}, 0, None, None).to_document())
        raw.send(opening)
        unpack_control(raw.recv(MESSAGE_BYTES_MAX), Kind.OPENED)
        raw.send(opening)
        _, refusal = unpack_control(raw.recv(MESSAGE_BYTES_MAX), Kind.REFUSED)
    assert refusal["code"] == "channel-limit"
    assert "1 channels" in str(refusal["message"])
