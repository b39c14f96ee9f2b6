"""The SDK's own ModelTrainer, unmodified, against the local cloud: the same job and the same metrics as our request."""

import json
import os
import subprocess
import sys
from pathlib import Path

from simulator.demo.lake import DataLake
from simulator.up import local_installation

MODEL_FOLDER = Path(__file__).resolve().parents[2] / "models" / "weather"
NOTEBOOK = """
import json, sys
from pathlib import Path
from cloud.training.model_trainer import TrainerOrder, model_trainer
from cloud.training.specification import Specification
folder, data_uri = sys.argv[1:]
order = TrainerOrder("arn:aws:iam::123456789012:role/edgewright", "edgewright-jobs:latest", "edgewright", data_uri,
                     "s3://edgewright/training")
model_trainer(Specification.load(Path(folder)), order).train(wait=True, logs=False)
"""


def test_a_notebook_trains_what_the_command_line_trains(tmp_path: Path) -> None:
    with local_installation(tmp_path / "installation") as installation:
        environment = {**os.environ, **installation.environment, "AWS_REGION": "us-east-1"}
        command = [sys.executable, "-m", "cloud.cli.app"]
        subprocess.run([*command, "setup"], env=environment, check=True, capture_output=True)
        lake = DataLake(tmp_path / "lake", MODEL_FOLDER, installation.url)
        lake.upload_months([1, 2])
        subprocess.run(
            [sys.executable, "-c", NOTEBOOK, str(MODEL_FOLDER), lake.uri],
            env={**environment, "SAGEMAKER_VALIDATE_ROLE": "false"},
            check=True,
            timeout=240,
        )
        train = [*command, "train", str(MODEL_FOLDER), "--data", lake.uri, "-o", "json"]
        ours = json.loads(subprocess.run(train, env=environment, check=True, capture_output=True).stdout)
        assert metrics_of_the_first_job(environment) == ours["metrics"]


def metrics_of_the_first_job(environment: dict[str, str]) -> dict[str, float]:
    script = (
        "import boto3, json; s = boto3.client('sagemaker');"
        "n = s.list_training_jobs(SortBy='CreationTime', SortOrder='Ascending')['TrainingJobSummaries'][0];"
        "d = s.describe_training_job(TrainingJobName=n['TrainingJobName']);"
        "print(json.dumps({m['MetricName']: m['Value'] for m in d['FinalMetricDataList']}))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    return json.loads(done.stdout)
