"""The example's scripts are no package: they are found by their folder, as in a training container."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "models" / "weather"
sys.path.insert(0, str(FOLDER))

import data  # noqa: E402


@dataclass(frozen=True)
class Run:
    """One run of the training script under the container's contract."""

    root: Path
    exit_code: int
    text: str

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def failure(self) -> str:
        return (self.root / "output" / "failure").read_text()


Train = Callable[..., Run]


def run_training(root: Path, observations: Path, variables: Mapping[str, str]) -> Run:
    environment = {
        "PATH": os.environ["PATH"],
        "SM_CHANNEL_TRAINING": str(observations),
        "SM_MODEL_DIR": str(root / "model"),
        "SM_OUTPUT_DATA_DIR": str(root / "output" / "data"),
        "SM_INPUT_CONFIG_DIR": str(root / "config"),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, str(FOLDER / "training.py")], env=environment, capture_output=True, text=True, timeout=120
    )
    return Run(root, done.returncode, done.stdout + done.stderr)


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
