"""A connection's requests lie in memory that is used again: no answer, and no record, ever shows another request's numbers."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc

from tests.edge_component.serving.oip.conftest import MakeDoors

SHAPE = (250, 500)
"""Half a megabyte: used where it lies."""


def ask(client: tritonclient.grpc.InferenceServerClient, name: str, number: int) -> np.ndarray:
    tensor = tritonclient.grpc.InferInput("x", SHAPE, "FP32")
    tensor.set_data_from_numpy(np.full(SHAPE, number, np.float32))
    answer: np.ndarray = client.infer(name, [tensor]).as_numpy("y")
    return answer


@pytest.mark.parametrize("threads_count", [1, 6])
def test_each_answer_holds_its_own_numbers(open_doors: MakeDoors, threads_count: int) -> None:
    doors = open_doors()
    name = doors.put_identity("FP32")
    with (
        tritonclient.grpc.InferenceServerClient(f"unix:{doors.grpc_path}") as client,
        ThreadPoolExecutor(threads_count) as threads,
    ):
        for number, answer in enumerate(threads.map(lambda number: ask(client, name, number), range(60))):
            assert (answer == number).all()
    doors.grpc_unix.stop(20.0)  # records are made when answers have been sent
    records = doors.fastpath.sink.records
    assert len(records) == 60
    seen = set()
    for record in records:
        (number,) = np.unique(record.inputs["x"])
        np.testing.assert_array_equal(record.inputs["x"], record.outputs["y"])
        seen.add(int(number))
    assert seen == set(range(60))
