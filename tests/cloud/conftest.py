"""A local cloud for each module, reached as AWS is: by the environment alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.aws.session import AwsSession
from simulator.aws.server import CloudOptions, LocalCloud

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def local_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    options = CloudOptions(Path(tmp_path_factory.mktemp("cloud")))
    with LocalCloud(options) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": running.url}.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def session(local_cloud: LocalCloud) -> AwsSession:
    return AwsSession("us-east-1")
