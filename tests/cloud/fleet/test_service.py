"""Loops are kept alive, their trouble is told, and stopping waits for the step under way."""

import threading
import time
from collections.abc import Callable

from cloud.errors import EdgewrightError, UnavailableError
from cloud.fleet.service import Service

Report = Callable[[EdgewrightError | None], None]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Troubled:
    """Reports a failure, then waits; then its end."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def run(self, stop: threading.Event, report: Report) -> None:
        report(UnavailableError("queue is away"))
        self.over.wait(10)
        report(None)
        stop.wait(10)


class Defective:
    """Raises what nobody foresaw, the first time."""

    def __init__(self) -> None:
        self.starts = 0

    def run(self, stop: threading.Event, report: Report) -> None:
        self.starts += 1
        if self.starts == 1:
            raise ZeroDivisionError("a defect")
        report(None)
        stop.wait(10)


def test_trouble_is_told_and_ends() -> None:
    loop = Troubled()
    service = Service({"ingest": loop})
    service.start()
    until(lambda: service.states() == [{"name": "ingest", "trouble": "queue is away"}])
    loop.over.set()
    until(lambda: service.states() == [{"name": "ingest", "trouble": ""}])
    service.stop()


def test_a_defect_does_not_end_a_loop_unseen() -> None:
    loop = Defective()
    service = Service({"drift": loop})
    service.start()
    until(lambda: service.states()[0]["trouble"] == "ZeroDivisionError: a defect")
    until(lambda: loop.starts == 2)
    service.stop()


def test_stopping_waits_for_the_step_under_way() -> None:
    begun, steps = threading.Event(), list[str]()

    class Slow:
        def run(self, stop: threading.Event, report: Report) -> None:
            begun.set()
            stop.wait(10)
            time.sleep(0.05)
            steps.append("done")

    service = Service({"slow": Slow()})
    service.start()
    begun.wait(10)
    service.stop()
    assert steps == ["done"]
