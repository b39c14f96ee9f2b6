"""What the cloud publishes, the device believes: our archive through the device's own unpacking and verification."""

from datetime import timedelta
from pathlib import Path

import pytest

from cloud.publishing.memory import MemoryArtifacts
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.publishing.runtime_artifact import trust_entries
from cloud.publishing.signing import PemSigner
from edge_component.activation.attempt import Attempt
from edge_component.activation.intake import Intake, take_in
from edge_component.bundles.signature import load_trust
from edge_component.bundles.store import Store
from edge_component.bundles.verification import Asked, Circumstances
from edge_component.clock import SystemClock
from edge_component.errors import DeviceError
from tests.cloud.publishing.conftest import KEY, NOW, MakeFolder

LINEAR = "com.edgewright.model.Linear"


def device_reads(archive: Path, folder: Path, trusted: PemSigner) -> str:
    """Take it in as a device does that trusts one key; the digest of what it would activate."""
    for name, pem in trust_entries([trusted.public_key_pem()]).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pem)
    work = Store(folder / "work")
    work.prepare()
    circumstances = Circumstances("linux/x86_64", NOW + timedelta(days=1), None, None)
    attempt = Attempt(SystemClock(), LINEAR)
    intake = Intake(work, load_trust(folder / "trust"))
    return take_in(intake, archive, Asked(LINEAR, "1.0.0"), circumstances, attempt).installed.ref.digest


@pytest.fixture
def published(make_folder: MakeFolder, ports: PublishingPorts, tmp_path: Path) -> tuple[Path, str]:
    """The x86-64 archive as it lies in S3, and the bundle's digest."""
    publication = publish_model(PublishRequest(make_folder(), "1.0.0", "bucket"), KEY, ports)
    (bundle,) = (each for each in publication.bundles if each.platform == "linux/x86_64")
    assert isinstance(ports.artifacts, MemoryArtifacts)
    archive = tmp_path / "downloaded.zip"
    archive.write_bytes(ports.artifacts.objects[bundle.archive_uri])
    return archive, bundle.digest


def test_the_device_believes_a_published_bundle(published: tuple[Path, str], tmp_path: Path) -> None:
    archive, digest = published
    assert device_reads(archive, tmp_path / "device", KEY) == digest


def test_the_device_refuses_it_under_another_key(published: tuple[Path, str], tmp_path: Path) -> None:
    archive, _ = published
    with pytest.raises(DeviceError):
        device_reads(archive, tmp_path / "device", PemSigner.generate())


def test_the_device_refuses_it_with_one_byte_changed(published: tuple[Path, str], tmp_path: Path) -> None:
    archive, _ = published
    content = bytearray(archive.read_bytes())
    content[content.index(b"model.onnx") + 40] ^= 1  # within the graph: nothing is compressed
    archive.write_bytes(content)
    with pytest.raises(DeviceError):
        device_reads(archive, tmp_path / "device", KEY)
