"""Fast-path clients that are gone in mid-run: the run ends long before its deadline, and nobody else hears of it."""

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_component.client import DeadlineExceededError
from edge_component.contracts.fastpath import (
    FAILED_HEAD,
    MESSAGE_BYTES_MAX,
    REQUEST_HEAD,
    Kind,
    Open,
    Opened,
    pack_control,
    unpack_control,
    unpack_failure,
)
from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.routes import BatchRule, ModelRules, RouteTable
from edge_component.inference.router import Router, Totals
from tests.edge_component.graphs import endless_model, rounds_model
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.serving.test_fastpath_routes import closing_shadows
from tests.edge_component.waiting import wait_until

ASKER = """
import sys
import numpy as np
from edge_component.client import Client

with Client(sys.argv[1]) as client:
    for number in (*range(int(sys.argv[2])), None):
        k = np.array(2**62 if number is None else 1)
        answer = client.infer("rounds", {"k": k, "x": np.ones(1, np.float32)}, deadline_s=600)
        print(answer.outputs["y"][0], flush=True)
"""
"""A process that asks for so many short runs, and then for one without an end."""

CALLER = """
import sys
import numpy as np
from edge_component.client import Client

Client(sys.argv[1]).infer("endless", {"x": np.ones((1, 3), np.float32)}, deadline_s=float(sys.argv[2]))
"""


@pytest.fixture
def rounds(door: Door) -> Door:
    """With ``rounds``, which doubles ``x`` as often as ``k`` says."""
    inputs = (TensorSpec("k", "int64", ()), TensorSpec("x", "float32", (1,)))
    door.put("1.0.0", rounds_model(), inputs, (TensorSpec("y", "float32", (1,)),), name="rounds")
    return door


@pytest.fixture
def endless(door: Door) -> Door:
    """With a model that never comes to an end by itself."""
    door.put("1.0.0", endless_model(), name="endless")
    return door


@pytest.fixture
def opened(endless: Door) -> Iterator[tuple[socket.socket, bytes]]:
    """A connection to it and a request, not yet sent, of a second."""
    connection = endless.greeted()
    connection.send(pack_control(Kind.OPEN, Open("endless").to_document()))
    message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES_MAX, 1)
    socket.close(descriptors[0])
    channel = Opened.read(unpack_control(message, Kind.OPENED)[1]).channel
    yield connection, REQUEST_HEAD.pack(Kind.REQUEST, 0, channel, 1, 1_000_000) + struct.pack("<2I", *ROW.shape)
    connection.close()


def in_flight(door: Door, name: str) -> int:
    return door.router.gate(name).in_flight_count


@pytest.mark.parametrize("short_runs_count", [0, 6], ids=["general way", "shortest way"])
def test_a_client_that_is_killed_ends_its_run_and_nobody_elses(rounds: Door, short_runs_count: int) -> None:
    other = rounds.client()
    asked = {"k": np.array(3), "x": np.ones(1, np.float32)}
    assert other.infer("rounds", asked).outputs["y"] == 8
    command = [sys.executable, "-c", ASKER, str(rounds.path), str(short_runs_count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asker:
        assert asker.stdout is not None
        assert [asker.stdout.readline() for _ in range(short_runs_count)] == [b"2.0\n"] * short_runs_count
        wait_until(lambda: in_flight(rounds, "rounds") == 1)
        asker.kill()
    wait_until(lambda: in_flight(rounds, "rounds") == 0)
    wait_until(lambda: rounds.listener.connections_count() == 1)
    assert [record.code for record in rounds.sink.records] == [None] * (short_runs_count + 1) + ["cancelled"]
    assert rounds.router.totals("rounds") == Totals(short_runs_count + 1, 0), "it says nothing about the model"
    assert other.infer("rounds", asked).outputs["y"] == 8


def test_a_client_that_only_stops_sending_is_answered(opened: tuple[socket.socket, bytes]) -> None:
    connection, request = opened
    connection.send(request)
    connection.shutdown(socket.SHUT_WR)
    message = connection.recv(MESSAGE_BYTES_MAX)
    assert message[0] == Kind.FAILED
    assert unpack_failure(message[FAILED_HEAD.size :]).code == "deadline-exceeded", "stopped in its own time"


def test_a_client_that_is_gone_before_its_run_begins_ends_it_all_the_same(
    endless: Door, opened: tuple[socket.socket, bytes]
) -> None:
    connection, request = opened
    gate = endless.router.gate("endless")
    for _ in range(gate.limits.in_flight_max):
        gate.enter(0)
    connection.send(request[:8] + bytes(4) + request[12:])
    wait_until(lambda: gate.waiting_count == 1)
    connection.close()
    gate.leave()
    wait_until(lambda: [record.code for record in endless.sink.records] == ["cancelled"])


@pytest.fixture
def in_twos(open_door: MakeDoor) -> Door:
    """With ``endless``, computed for two requests at once."""
    with closing_shadows() as equipment:
        door = open_door(router=Router(equipment=equipment))
    door.router.set_table(RouteTable(models={"endless": ModelRules(batch=BatchRule(2, 10_000_000))}))
    door.put("1.0.0", endless_model(), name="endless")
    return door


def asking(door: Door, deadline_s: float) -> "subprocess.Popen[bytes]":
    """A process that asks ``endless``, once its request is there."""
    before = in_flight(door, "endless")
    asker = subprocess.Popen([sys.executable, "-c", CALLER, str(door.path), str(deadline_s)])
    wait_until(lambda: in_flight(door, "endless") == before + 1)
    return asker


def test_a_batch_ends_when_all_its_callers_are_gone(in_twos: Door) -> None:
    askers = [asking(in_twos, 600), asking(in_twos, 600)]
    for asker in askers:
        asker.kill()
        asker.wait()
    wait_until(lambda: [record.code for record in in_twos.sink.records] == ["cancelled", "cancelled"])
    assert in_flight(in_twos, "endless") == 0


def test_a_batch_is_computed_for_the_others_when_its_leader_is_gone(in_twos: Door) -> None:
    """Two requests without an end, for a second, on the first one's leash."""
    door = in_twos
    leader = asking(door, 1.5)
    refusals: list[str] = []

    def follow() -> None:
        with pytest.raises(DeadlineExceededError) as late:
            door.client().infer("endless", {"x": ROW}, deadline_s=1.0)
        refusals.append(late.value.code)

    follower = threading.Thread(target=follow)
    follower.start()
    wait_until(lambda: in_flight(door, "endless") == 2)
    leader.kill()
    leader.wait()
    follower.join()
    wait_until(lambda: in_flight(door, "endless") == 0)
    assert refusals == ["deadline-exceeded"], "not cancelled with the leader"


def test_requests_of_a_client_that_is_there_are_left_alone(rounds: Door) -> None:
    """Runs of more than a tick, looked at again and again, on several connections at once."""
    asked = {"k": np.array(2**17), "x": np.zeros(1, np.float32)}
    answers: list[float] = []

    def ask() -> None:
        answers.append(float(rounds.client().infer("rounds", asked, deadline_s=60).outputs["y"][0]))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0.0, 0.0]
