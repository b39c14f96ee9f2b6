"""Every job request, against botocore's own model of what SageMaker takes."""

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from cloud.compilation.request import CompilationRun, compilation_request
from cloud.compilation.result import PRECISIONS
from cloud.infrastructure.state_parameters import state_parameters
from cloud.publishing.request import PublicationRun, publication_request
from cloud.training.request import TrainingRun, training_request
from cloud.training.specification import Specification

ROLE = "arn:aws:iam::123456789012:role/edgewright"
WEATHER = Specification.load(Path(__file__).resolve().parents[3] / "models" / "weather")


def run(**changes: Any) -> TrainingRun:
    fields = {
        "job_name": "weather-1", "role_arn": ROLE, "image": "jobs:1", "code_uri": "s3://b/code/",
        "data_uri": "s3://b/data/", "output_uri": "s3://b/out",
    }  # fmt: skip
    return TrainingRun(**(fields | changes))


@pytest.fixture(scope="module")
def shapes() -> Any:
    return boto3.client("sagemaker", region_name="us-east-1").meta.service_model


@pytest.mark.parametrize("incumbent", ["", "s3://b/incumbent/"])
def test_a_training_request_is_what_sagemaker_takes(shapes: Any, incumbent: str) -> None:
    request = training_request(WEATHER, run(incumbent_uri=incumbent, hyperparameters={"seed": "3"}, tags={"a": "b"}))
    shape = shapes.operation_model("CreateTrainingJob").input_shape
    assert not ParamValidator().validate(request, shape).has_errors()
    channels = [channel["ChannelName"] for channel in request["InputDataConfig"]]
    assert channels == ["code", "training", *(["incumbent"] if incumbent else [])]
    assert request["HyperParameters"]["seed"] == "3"
    assert request["HyperParameters"]["max_iter"] == WEATHER.hyperparameters["max_iter"]
    assert request["AlgorithmSpecification"]["ContainerEntrypoint"] == [
        "python3",
        "/opt/ml/input/data/code/training.py",
    ]


def test_a_compilation_request_is_what_sagemaker_takes(shapes: Any) -> None:
    given = CompilationRun("c-1", ROLE, "jobs:1", "s3://b/model.tar.gz", "s3://b/out", ("linux/aarch64",), {"a": "b"})
    request = compilation_request(given)
    shape = shapes.operation_model("CreateProcessingJob").input_shape
    assert not ParamValidator().validate(request, shape).has_errors()
    assert request["AppSpecification"]["ContainerArguments"][-2:] == ["--platform", "linux/aarch64"]
    assert request["Environment"] == {"EDGEWRIGHT_LINEAGE_A": "b"}


def test_what_a_job_is_asked_for_is_what_its_stage_reads() -> None:
    from cloud.compilation.stage import read_order

    for precision in PRECISIONS:
        given = CompilationRun(
            "c-1", ROLE, "jobs:1", "s3://b/m.tar.gz", "s3://b/out", ("linux/aarch64",), precision=precision
        )
        order, _ = read_order(compilation_request(given)["AppSpecification"]["ContainerArguments"], {})
        assert (order.platforms, order.precision) == (("linux/aarch64",), precision)


def test_a_publication_request_is_what_sagemaker_takes(shapes: Any) -> None:
    given = PublicationRun("p-1", ROLE, "jobs:1", "s3://b/compiled", "s3://b/out", "b", "kms:alias/k")
    request = publication_request(given)
    shape = shapes.operation_model("CreateProcessingJob").input_shape
    assert not ParamValidator().validate(request, shape).has_errors()
    assert request["AppSpecification"]["ContainerArguments"][-2:] == ["--key", "kms:alias/k"]
    assert "Environment" not in request


def test_a_state_machine_gets_the_same_request_with_its_paths_marked() -> None:
    plain = training_request(WEATHER, run())
    rendered = state_parameters(
        training_request(
            WEATHER, run(job_name="$.job_name", data_uri="$.data", output_uri="States.Format('s3://{}', $.b)")
        )
    )
    assert rendered["TrainingJobName.$"] == "$.job_name"
    assert "TrainingJobName" not in rendered
    sources = [channel["DataSource"]["S3DataSource"] for channel in rendered["InputDataConfig"]]
    assert sources[0]["S3Uri"] == "s3://b/code/"
    assert sources[1]["S3Uri.$"] == "$.data"
    assert rendered["OutputDataConfig"] == {"S3OutputPath.$": "States.Format('s3://{}', $.b)"}
    assert state_parameters(plain) == plain
