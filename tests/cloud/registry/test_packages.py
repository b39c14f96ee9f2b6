"""What the registry is told about a publication, and that it is told once."""

from datetime import UTC, datetime

import pytest
from botocore import loaders, model, validate

from cloud.publishing.publication import Publication, PublishedBundle
from cloud.registry.memory import MemoryPackages
from cloud.registry.packages import APPROVALS, group_name, package_request, register

WEATHER = "com.edgewright.model.Weather"
TRAINING_JOB = "arn:aws:sagemaker:us-east-1:123456789012:training-job/weather-1"


def publication(version: str = "1.0.0") -> Publication:
    return Publication(
        component_name=WEATHER,
        model_name="weather",
        version=version,
        release=7,
        component_arn=f"arn:aws:greengrass:us-east-1:123456789012:components:{WEATHER}:versions:{version}",
        record_uri=f"s3://bucket/publications/{WEATHER}/{version}.json",
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
        bundles=(PublishedBundle("linux/x86_64", "int8", "d" * 64, "s3://bucket/a.zip", "a" * 64),),
    )


def test_a_publication_is_registered_once_with_its_lineage() -> None:
    store = MemoryPackages()
    lineage = {"training_job_arn": TRAINING_JOB, "log_loss": 0.2, "nested": {"kept": "elsewhere"}}
    first = register(publication(), lineage, "Approved", store)
    again = register(publication(), lineage, "Approved", store)
    other = register(publication("1.1.0"), lineage, "Approved", store)
    assert (first.is_new, again.is_new, other.is_new) == (True, False, True)
    assert first.package_arn == again.package_arn != other.package_arn
    request = store.groups["com-edgewright-model-Weather"][0]
    assert request["MetadataProperties"] == {"GeneratedBy": TRAINING_JOB}
    properties = request["CustomerMetadataProperties"]
    assert (properties["version"], properties["release"], properties["log_loss"]) == ("1.0.0", "7", "0.2")
    assert properties["digest_linux-x86_64"] == "d" * 64
    assert "nested" not in properties


@pytest.mark.parametrize("approval", APPROVALS)
def test_the_request_is_one_that_sagemaker_accepts(approval: str) -> None:
    request = package_request(publication(), {"training_job_arn": TRAINING_JOB, "note": "x" * 1000}, approval)
    description = loaders.Loader().load_service_model("sagemaker", "service-2")
    shape = model.ServiceModel(description).operation_model("CreateModelPackage").input_shape
    assert validate.ParamValidator().validate(request, shape).generate_report() == ""
    token = shape.members["ClientToken"].metadata
    assert len(request["ClientToken"]) <= token["max"]
    assert approval in shape.members["ModelApprovalStatus"].enum
    value = shape.members["CustomerMetadataProperties"].value.metadata
    assert all(len(text) <= value["max"] for text in request["CustomerMetadataProperties"].values())


def test_a_group_is_named_as_sagemaker_allows() -> None:
    assert group_name("com.edgewright.model.Silero_Vad") == "com-edgewright-model-Silero-Vad"
