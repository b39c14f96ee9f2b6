"""A file that takes the name of one under way, as a camera writes `latest.jpg` again and again."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.edge_component.streams.test_pipeline import FILE, FOLDER, WAIT_S, Bench, Doubler, Prediction, eventually


class Waiting(Doubler):
    """Says when it is asked, before the answer may go out."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def predict(self, model: str, inputs: Mapping[str, Any], deadline_s: float, request_id: str) -> Prediction:
        self.asked.set()
        return super().predict(model, inputs, deadline_s, request_id)


@pytest.mark.parametrize("afterwards", ["move", "delete"])
def test_it_is_answered_and_not_put_away_unread_in_the_others_place(tmp_path: Path, afterwards: str) -> None:
    models = Waiting()
    bench = Bench(tmp_path, models=models)
    models.gate.clear()
    bench.put("latest.json", [1, 0, 0])
    stream = bench.start(source={**FOLDER, "afterwards": afterwards}, sink=FILE)
    try:
        assert models.asked.wait(WAIT_S)
        bench.put("latest.json", [2, 0, 0])
        models.gate.set()
        eventually(lambda: stream.counts.delivered_count == 2, "both are answered")
        assert [result["outputs"]["y"][0][0] for result in bench.results()] == [2.0, 4.0]
        eventually(lambda: bench.files() == set(), "put away once it is answered")
    finally:
        models.gate.set()
        stream.stop(WAIT_S)
