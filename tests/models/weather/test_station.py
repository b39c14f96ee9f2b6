import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import station
from training_run import FOLDER

from edge_component.client import UnavailableError

PLAY = '{"play": {"station": "EWR", "from": "2013-01-02", "to": "2013-01-03", "rate_per_s": null}}'


@dataclass
class Runtime:
    """Answers like the client; ``version`` changes under the station."""

    probability: float = 0.5
    version: str = "1.0.0"
    asked: int = 0

    def ask(self, features: np.ndarray) -> SimpleNamespace:
        assert features.shape == (1, 16)
        assert features.dtype == np.float32
        self.asked += 1
        outputs = {"probabilities": np.array([[1 - self.probability, self.probability]], np.float32)}
        return SimpleNamespace(outputs=outputs, model=SimpleNamespace(version=self.version))


def played(lines: list[str], lake: Path, ask: Callable[[np.ndarray], object]) -> list[dict]:
    answers: list[str] = []
    station.serve(lake, ask, lines, answers.append)
    return [json.loads(line) for line in answers]


def test_a_day_is_24_answers_with_their_realised_loss(winter: Path) -> None:
    (answer,) = played([PLAY], winter, Runtime().ask)
    found = answer["played"]
    assert (found["answered"], found["failed"], found["labelled"]) == (24, 0, 24)
    assert found["log_loss"] == pytest.approx(np.log(2))
    assert found["models"]["1.0.0"]["answered"] == 24
    assert 0 < found["latency_us"]["p50"] <= found["latency_us"]["p99"]


def test_answers_are_counted_by_who_gave_them(winter: Path) -> None:
    runtime = Runtime()

    def swap_at_noon(features: np.ndarray) -> SimpleNamespace:
        runtime.version = "1.1.0" if runtime.asked >= 12 else "1.0.0"
        return runtime.ask(features)

    (answer,) = played([PLAY], winter, swap_at_noon)
    assert {version: one["answered"] for version, one in answer["played"]["models"].items()} == {
        "1.0.0": 12,
        "1.1.0": 12,
    }


def test_it_goes_on_after_a_failure_and_counts_it(winter: Path) -> None:
    runtime = Runtime()

    def fails_once(features: np.ndarray) -> SimpleNamespace:
        answer = runtime.ask(features)
        if runtime.asked == 5:
            raise UnavailableError("the runtime is gone", "unavailable")
        return answer

    (answer,) = played([PLAY], winter, fails_once)
    assert (answer["played"]["answered"], answer["played"]["failed"]) == (23, 1)
    assert answer["played"]["models"]["1.0.0"]["failed"] == 1
    assert answer["played"]["errors"] == {"unavailable": 1}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("hello", "not a command"),
        ("[]", "not a command"),
        ("{}", "lacks 'play'"),
        ('{"play": {"station": "EWR"}}', "lacks 'from'"),
        ('{"play": {"station": "EWR", "from": "then", "to": "2013-01-03"}}', "is not a day"),
        ('{"play": {"station": "SFO", "from": "2013-01-02", "to": "2013-01-03"}}', "no observation of station 'SFO'"),
        ('{"play": {"station": "EWR", "from": "2014-01-02", "to": "2014-01-03"}}', "no hour of EWR"),
    ],
)
def test_a_bad_command_is_answered_and_the_next_one_played(winter: Path, line: str, sentence: str) -> None:
    bad, good = played([line, "", PLAY], winter, Runtime().ask)
    assert sentence in bad["error"]
    assert good["played"]["answered"] == 24


def test_stop_ends_it(winter: Path) -> None:
    assert played(['{"stop": {}}', PLAY], winter, Runtime().ask) == []


def test_a_rate_is_kept_by_pauses(winter: Path) -> None:
    pauses: list[float] = []
    play = station.read_command(PLAY.replace("null", "50"))
    assert play is not None
    station.replay(station.hours_of(play, winter), Runtime().ask, play.rate_per_s, pauses.append)
    assert pauses == [0.02] * 24


def test_a_runtime_that_is_not_there_fails_requests_not_the_station(winter: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "station.py"), "--socket", str(tmp_path / "infer.sock")]
    command += ["--observations", str(winter), "--deadline-s", "0.01"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    done = subprocess.run(command, input=PLAY + "\n", capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)["played"]
    assert (answer["answered"], answer["failed"], answer["log_loss"]) == (0, 24, None)
