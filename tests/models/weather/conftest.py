"""The example's scripts are no package: they are found by their folder, as in a training container."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "models" / "weather")]

import data  # noqa: E402 - found by the line above
from training_run import Run, Train, run_training  # noqa: E402


@pytest.fixture(scope="session")
def stations() -> list[data.Observations]:
    return data.read_package()


@pytest.fixture(scope="session")
def winter(tmp_path_factory: pytest.TempPathFactory, stations: list[data.Observations]) -> Path:
    """January and February as observation files."""
    folder = tmp_path_factory.mktemp("winter")
    data.write_lake(folder, stations, datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, winter: Path) -> Run:
    """The job on January and February."""
    run = run_training(tmp_path_factory.mktemp("job"), winter, {})
    assert run.exit_code == 0, run.text
    return run


@pytest.fixture
def train(tmp_path: Path, winter: Path) -> Train:
    def start(observations: Path = winter, **variables: str) -> Run:
        return run_training(tmp_path, observations, variables)

    return start
