"""One suite for publishing's ports: the shipped in-memory ones and AWS's own interfaces on the local cloud."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.aws.greengrass import Components
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.errors import ConflictError, NotFoundError
from cloud.publishing.memory import MemoryArtifacts, MemoryComponents
from cloud.publishing.ports import ArtifactStore, ComponentCatalog
from cloud.publishing.recipe import encoded
from cloud.s3_uri import S3Uri
from simulator.aws.server import CloudOptions, LocalCloud

BUCKET = "conformance"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSession]:
    """A session against a local cloud that has one bucket."""
    with LocalCloud(CloudOptions(tmp_path_factory.mktemp("cloud"))) as local, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", local.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "local")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "local")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        session = AwsSession("us-east-1")
        ObjectStore(session).ensure_bucket(BUCKET, "us-east-1")
        yield session


@pytest.fixture(params=["memory", "local cloud"])
def artifacts(request: pytest.FixtureRequest) -> ArtifactStore:
    if request.param == "memory":
        return MemoryArtifacts()
    return ObjectStore(request.getfixturevalue("aws"))


@pytest.fixture(params=["memory", "local cloud"])
def stores(request: pytest.FixtureRequest) -> tuple[ArtifactStore, ComponentCatalog]:
    if request.param == "memory":
        return MemoryArtifacts(), MemoryComponents()
    session = request.getfixturevalue("aws")
    return ObjectStore(session), Components(session)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> S3Uri:
    """A part of the bucket that only this test uses."""
    return S3Uri(BUCKET, hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16] + "/")


def test_an_object_is_read_as_it_was_written(artifacts: ArtifactStore, prefix: S3Uri) -> None:
    assert artifacts.put_new(prefix / "a", b"one")
    assert artifacts.get_bytes(prefix / "a") == b"one"


def test_an_absent_object_is_not_found(artifacts: ArtifactStore, prefix: S3Uri) -> None:
    with pytest.raises(NotFoundError):
        artifacts.get_bytes(prefix / "absent")


def test_a_taken_key_is_not_written(artifacts: ArtifactStore, prefix: S3Uri) -> None:
    assert artifacts.put_new(prefix / "a", b"one")
    assert not artifacts.put_new(prefix / "a", b"two")
    assert not artifacts.put_new(prefix / "a", b"one")
    assert artifacts.get_bytes(prefix / "a") == b"one"


def test_an_immutable_object_is_written_once_and_never_with_other_bytes(
    artifacts: ArtifactStore, prefix: S3Uri, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"one")
    assert artifacts.put_immutable(prefix / "a", tmp_path / "file")
    assert not artifacts.put_immutable(prefix / "a", tmp_path / "file")
    (tmp_path / "file").write_bytes(b"two")
    with pytest.raises(ConflictError):
        artifacts.put_immutable(prefix / "a", tmp_path / "file")
    assert artifacts.get_bytes(prefix / "a") == b"one"


def test_a_prefix_lists_its_objects_in_order(artifacts: ArtifactStore, prefix: S3Uri) -> None:
    for name in ("b", "a/x", "a/y"):
        artifacts.put_new(prefix / name, b"")
    assert list(artifacts.list(prefix)) == [prefix / "a/x", prefix / "a/y", prefix / "b"]
    assert list(artifacts.list(prefix / "a/")) == [prefix / "a/x", prefix / "a/y"]


def recipe_of(name: str, version: str, artifact: S3Uri, publisher: str = "Edgewright") -> bytes:
    manifest = {
        "Platform": {"os": "linux", "runtime": "*"},
        "Lifecycle": {"run": {"Script": "exec true"}},
        "Artifacts": [{"Uri": str(artifact), "Unarchive": "NONE"}],
    }
    return encoded(
        {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": version,
            "ComponentPublisher": publisher,
            "Manifests": [manifest],
        }
    )


def test_a_component_version_is_found_with_the_digest_of_its_recipe(
    stores: tuple[ArtifactStore, ComponentCatalog], prefix: S3Uri
) -> None:
    artifacts, catalog = stores
    name = f"com.example.{prefix.key.rstrip('/')}"
    assert catalog.find(name, "1.0.0") is None
    assert catalog.versions(name) == ()
    artifacts.put_new(prefix / "a.zip", b"content")
    recipe = recipe_of(name, "1.0.0", prefix / "a.zip")
    catalog.create(recipe, hashlib.sha256(recipe).hexdigest())
    catalog.create(recipe_of(name, "1.1.0", prefix / "a.zip"), "0" * 64)
    found = catalog.find(name, "1.0.0")
    assert found is not None
    assert (found.state, found.recipe_sha256) == ("DEPLOYABLE", hashlib.sha256(recipe).hexdigest())
    assert found.arn.endswith(f":components:{name}:versions:1.0.0")
    assert sorted(catalog.versions(name)) == ["1.0.0", "1.1.0"]


def test_a_component_version_is_made_once(stores: tuple[ArtifactStore, ComponentCatalog], prefix: S3Uri) -> None:
    artifacts, catalog = stores
    name = f"com.example.{prefix.key.rstrip('/')}"
    artifacts.put_new(prefix / "a.zip", b"content")
    catalog.create(recipe_of(name, "1.0.0", prefix / "a.zip"), "0" * 64)
    with pytest.raises(ConflictError):
        catalog.create(recipe_of(name, "1.0.0", prefix / "a.zip", "Somebody"), "1" * 64)
    found = catalog.find(name, "1.0.0")
    assert found is not None
    assert found.recipe_sha256 == "0" * 64
    assert json.loads(recipe_of(name, "1.0.0", prefix / "a.zip"))["ComponentPublisher"] == "Edgewright"
