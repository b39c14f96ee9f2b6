"""One run of the training script under the container's contract, as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "models" / "weather"


@dataclass(frozen=True)
class Run:
    """How it ended, and where it wrote."""

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
