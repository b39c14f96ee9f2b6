"""One request without shared memory: limits kept, runs truly stopped, places given back whatever happens."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_component.inference.admission import AdmissionLimits, Gate
from edge_component.inference.computing import Cancellation, compute
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.errors import (
    InputNameError,
    OverloadedError,
    RunCancelledError,
    RunDeadlineError,
)
from edge_component.inference.sequences import Sequences
from edge_component.inference.versions import Turn
from tests.edge_component.inference.conftest import Serve
from tests.edge_component.inference.test_sequences import PAIRS
from tests.edge_component.inference.test_session import ROW


def test_it_answers_and_gives_its_place_back(serve: Serve, watch: DeadlineWatch) -> None:
    active = serve("double")
    np.testing.assert_array_equal(compute(active, {"x": ROW}, watch.leash(), 10)["y"], ROW * 2)
    with pytest.raises(InputNameError):
        compute(active, {}, watch.leash(), 10)
    assert active.gate.in_flight_count == 0


def test_a_deadline_stops_the_run_and_the_session_goes_on(serve: Serve, watch: DeadlineWatch) -> None:
    active, leash = serve("endless"), watch.leash()
    for _ in range(2):
        with pytest.raises(RunDeadlineError, match=r"0\.1 s"):
            compute(active, {"x": ROW}, leash, 0.1)
    assert active.gate.in_flight_count == 0


def test_a_cancelled_run_ends_long_before_its_deadline(serve: Serve, watch: DeadlineWatch) -> None:
    active, cancellation = serve("endless"), Cancellation(watch)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(cancellation.compute, active, {"x": ROW}, 60.0)
        while not active.gate.in_flight_count:
            pass
        cancellation.cancel()
        with pytest.raises(RunCancelledError):
            asked.result(30)
    assert active.gate.in_flight_count == 0


def test_what_is_cancelled_before_it_begins_is_not_computed(serve: Serve, watch: DeadlineWatch) -> None:
    cancellation = Cancellation(watch)
    cancellation.cancel()
    with pytest.raises(RunCancelledError):
        cancellation.compute(serve("double"), {"x": ROW}, 10)


def test_no_place_is_a_refusal(serve: Serve, watch: DeadlineWatch) -> None:
    active = serve("double", gate=Gate(AdmissionLimits(1, 0)))
    active.gate.enter(1)
    with pytest.raises(OverloadedError):
        compute(active, {"x": ROW}, watch.leash(), 10)


def test_a_detour_is_taken(serve: Serve, watch: DeadlineWatch) -> None:
    bare = serve("sum")
    active = serve("sum", detour=Sequences(bare.session, PAIRS))
    assert [spec.name for spec in active.inputs] == ["x"]
    assert [spec.name for spec in active.outputs] == ["y"]
    for count in (1, 2, 3):
        answer = compute(active, {"x": ROW}, watch.leash(), 10, Turn("a"))
        np.testing.assert_array_equal(answer["y"], ROW * count)
