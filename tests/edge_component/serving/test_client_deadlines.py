"""Deadlines of both clients: those that are none, and one that several messages share."""

import asyncio
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_component.client import Client, DeadlineExceededError, InputError
from edge_component.client.aio import AsyncClient
from edge_component.client.errors import ClientError
from edge_component.contracts.fastpath import MESSAGE_BYTES_MAX, Failure, Kind, Welcome, pack_control
from edge_component.serving.fastpath_connection import FastpathConnection
from tests.edge_component.serving.conftest import ROW, Door

STEP_S = 0.3


def ask(kind: str, path: Path, deadline_s: float) -> str:
    """The first output's first value, or the name and code of the error."""

    async def asked() -> float:
        async with AsyncClient(path) as client:
            return float((await client.infer("scale", {"x": ROW}, deadline_s=deadline_s)).outputs["y"][0, 0])

    try:
        if kind == "async":
            return str(asyncio.run(asked()))
        with closing(Client(path)) as client:
            return str(float(client.infer("scale", {"x": ROW}, deadline_s=deadline_s).outputs["y"][0, 0]))
    except ClientError as error:
        return f"{type(error).__name__} {error.code}"


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize("deadline_s", [0, 0.0, -1, -1e300, -(10**400), -math.inf])
def test_a_deadline_that_is_over_is_exceeded(door: Door, kind: str, deadline_s: float) -> None:
    assert ask(kind, door.path, deadline_s) == "DeadlineExceededError deadline-exceeded"


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_deadline_of_nan_is_the_callers_mistake(door: Door, kind: str) -> None:
    assert ask(kind, door.path, math.nan) == "InputError input-deadline"


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize("deadline_s", [60, 1e9, 1e10, 1e300, 10**400, math.inf])
def test_a_deadline_may_be_as_far_away_as_one_likes(door: Door, kind: str, deadline_s: float) -> None:
    assert ask(kind, door.path, deadline_s) == str(float(ROW[0, 0] * 2))


def test_preparing_knows_the_same_deadlines(door: Door) -> None:
    client = door.client()
    with pytest.raises(InputError):
        client.prepare("scale", {"x": ROW}, deadline_s=math.nan)
    with pytest.raises(DeadlineExceededError):
        client.prepare("scale", {"x": ROW}, deadline_s=-1)
    np.testing.assert_array_equal(
        client.prepare("scale", {"x": ROW}, deadline_s=math.inf).infer().outputs["y"], ROW * 2
    )


@pytest.fixture
def slow_steps(tmp_path: Path) -> Iterator[Path]:
    """A runtime that takes ``STEP_S`` for each message, and refuses what is asked at last."""
    path = tmp_path / "infer.sock"
    over = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(30)

        def serve() -> None:
            connection, _ = listening.accept()
            welcome = Welcome(1, "1.0.0", 1).to_document()
            refusal = Failure("weird", "no").to_document()
            with connection:
                for answer in (pack_control(Kind.WELCOME, welcome), pack_control(Kind.REFUSED, refusal)):
                    connection.recv(MESSAGE_BYTES_MAX)
                    over.wait(STEP_S)
                    try:
                        connection.send(answer)
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        over.set()
        thread.join(30)


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_several_messages_share_one_deadline(slow_steps: Path, kind: str) -> None:
    assert ask(kind, slow_steps, STEP_S * 1.5) == "DeadlineExceededError deadline-exceeded"


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize(
    ("cuts_count", "expected"), [(1, str(float(ROW[0, 0] * 2))), (1000, "UnavailableError cut-off")]
)
def test_a_request_that_is_cut_off_is_asked_once_more(
    door: Door, monkeypatch: pytest.MonkeyPatch, kind: str, cuts_count: int, expected: str
) -> None:
    answered = FastpathConnection._answer
    asked: list[int] = []

    def cut(self: FastpathConnection, size: int, started_ns: int, trouble: object = None) -> None:
        asked.append(size)
        if len(asked) <= cuts_count:
            self._socket.shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that has ended
        else:
            answered(self, size, started_ns)

    monkeypatch.setattr(FastpathConnection, "_answer", cut)
    assert ask(kind, door.path, 60) == expected
    assert len(asked) == 2
