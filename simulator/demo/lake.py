"""The stations' data lake: observation files that reach S3 month by month, as a station's own pipeline would bring them.

Retraining sees what has been observed by then and nothing later; that is what makes the demo's figures honest.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import boto3

from simulator.demo.periods import YEAR
from simulator.errors import SimulatorError

BUCKET = "edgewright"
PREFIX = "data/weather/"


class NoObservationsError(SimulatorError):
    """The example's data could not be written."""


class DataLake:
    """Writes the whole year once into a folder (what the stations replay) and uploads months of it as they end."""

    def __init__(self, folder: Path, model_folder: Path, endpoint_url: str) -> None:
        """Write the files.

        Raises:
            NoObservationsError: the example's data script failed, such as for want of its package.
        """
        self.folder = folder
        self.uri = f"s3://{BUCKET}/{PREFIX}"
        self._s3 = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - the local cloud takes any
        )
        command = [sys.executable, str(model_folder / "data.py"), "--output", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoObservationsError(f"the weather example's data: {done.stderr.strip()}", "Run `make demo` again.")

    def upload_months(self, months: Iterable[int]) -> int:
        """Upload those months' files of all stations; returns how many files there were."""
        paths = [path for month in months for path in sorted(self.folder.glob(f"*-{YEAR}-{month:02}.csv"))]
        for path in paths:
            self._s3.upload_file(str(path), BUCKET, PREFIX + path.name)
        return len(paths)
