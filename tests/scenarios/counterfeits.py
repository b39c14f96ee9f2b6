"""For scenarios: what somebody with the right to write to the cloud, but without the signing key, can make of a version.

Greengrass itself has nothing against any of these: recipe, artifact and digest fit each other.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cloud.aws.greengrass import Components
from cloud.aws.s3 import ObjectStore
from cloud.publishing.archive import write_archive
from cloud.publishing.keys import signer_for
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.s3_uri import S3Uri
from cloud.settings import Settings
from tests.scenarios.installation import LINEAR, Installation

ARCHITECTURES = {"linux/x86_64": "amd64", "linux/aarch64": "aarch64"}
"""Platforms as bundles and as recipes name them."""


def archive_uri(installation: Installation, version: str, platform: str) -> S3Uri:
    """Where a version's bundle for a platform lies."""
    return S3Uri.parse(_manifest(_recipe(installation, version), platform)["Artifacts"][0]["Uri"])


def with_one_byte_changed(archive: bytes) -> bytes:
    """The same bundle, sound as an archive, but for one byte of its model."""
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    model = bytearray(files["model.onnx"])
    model[len(model) // 2] ^= 1
    return packed({**files, "model.onnx": bytes(model)})


def packed(files: dict[str, bytes]) -> bytes:
    """A bundle's archive as publishing writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        write_archive(path, dict(files))
        return path.read_bytes()


def replace_archive(installation: Installation, version: str, change: Callable[[bytes], bytes]) -> None:
    """Let the published version mean another archive for this platform, under another key, with its true digest."""
    platform, store = installation.world.platform, ObjectStore(installation.session)
    genuine = archive_uri(installation, version, platform)
    archive = change(store.get_bytes(genuine))
    uri = S3Uri(genuine.bucket, f"elsewhere/{sha256(archive).hexdigest()}/{genuine.key.rpartition('/')[2]}")
    store.put_bytes(uri, archive)
    recipe = _recipe(installation, version)
    _manifest(recipe, platform)["Artifacts"][0]["Uri"] = str(uri)
    client, arn = _component(installation, version)
    client.delete_component(arn=arn)
    client.create_component_version(inlineRecipe=json.dumps(recipe).encode())


def publish_expired(installation: Installation) -> str:
    """Publish, in good order, a version whose time is over: as if it had been published two years ago."""
    version = installation.next_version()
    settings, session = Settings.from_environment(), installation.session
    store, catalog = ObjectStore(session), Components(session)
    ports = PublishingPorts(store, catalog)
    long_ago = ports.now() - timedelta(days=730)
    publish_model(
        PublishRequest(installation.compile(version), version, settings.bucket),
        signer_for(settings.signing_key, session),
        PublishingPorts(store, catalog, now=lambda: long_ago),
    )
    return version


def _recipe(installation: Installation, version: str) -> dict[str, Any]:
    client, arn = _component(installation, version)
    recipe: dict[str, Any] = json.loads(client.get_component(arn=arn, recipeOutputFormat="JSON")["recipe"])
    for manifest in recipe["Manifests"]:
        for artifact in manifest["Artifacts"]:
            artifact.pop("Digest", None)
            artifact.pop("Algorithm", None)
    return recipe


def _component(installation: Installation, version: str) -> tuple[Any, str]:
    session = installation.session
    found = Components(session).find(LINEAR, version)
    assert found is not None
    return session.client("greengrassv2"), found.arn


def _manifest(recipe: dict[str, Any], platform: str) -> dict[str, Any]:
    return next(
        manifest for manifest in recipe["Manifests"] if manifest["Platform"]["architecture"] == ARCHITECTURES[platform]
    )
