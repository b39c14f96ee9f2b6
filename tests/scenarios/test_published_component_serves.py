"""What is published runs: our recipes and artifacts, unmodified, on a device that behaves as Greengrass Lite does.

The nucleus is real code with real processes; its ports are in memory, so that no broker and no cloud is needed here.
"""

import asyncio
import base64
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.publishing.memory import MemoryArtifacts, MemoryComponents
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.publishing.publish_runtime import RuntimeRequest, publish_runtime
from cloud.publishing.signing import PemSigner
from edge_component.client import Client
from tests.cloud.publishing.conftest import KEY, MakeFolder, make_folder
from tests.simulator.nucleus.world import FAST, World, started

__all__ = ["make_folder"]

RUNTIME, LINEAR = "com.edgewright.Runtime", "com.edgewright.model.Linear"
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

DEADLINE_S = 180.0
"""For one deployment, the installation of the runtime included, on a busy machine."""

pytestmark = pytest.mark.slow


@pytest.fixture
def world() -> Iterator[World]:
    """A device whose folder is short enough for its sockets."""
    with tempfile.TemporaryDirectory(prefix="ew-") as root:
        yield World(Path(root), replace(FAST, ready_timeout_s=DEADLINE_S))


@pytest.fixture
def ports() -> PublishingPorts:
    return PublishingPorts(MemoryArtifacts(), MemoryComponents())


def deliver(ports: PublishingPorts, world: World) -> None:
    """What Greengrass does between the two: hand on recipes with each artifact's digest put in."""
    assert isinstance(ports.artifacts, MemoryArtifacts)
    assert isinstance(ports.catalog, MemoryComponents)
    world.source.artifacts.update(ports.artifacts.objects)
    for key, recipe in ports.catalog.created.items():
        document = json.loads(recipe)
        for manifest in document["Manifests"]:
            for artifact in manifest["Artifacts"]:
                digest = hashlib.sha256(ports.artifacts.objects[artifact["Uri"]]).digest()
                artifact |= {"Digest": base64.b64encode(digest).decode(), "Algorithm": "SHA-256"}
        world.source.recipes[key] = json.dumps(document).encode()


def publish_linear(folder: Path, version: str, ports: PublishingPorts, signer: PemSigner = KEY) -> None:
    publish_model(PublishRequest(folder, version, "bucket"), signer, ports)


def test_a_published_model_is_installed_activated_replaced_and_refused(
    world: World, ports: PublishingPorts, make_folder: MakeFolder
) -> None:
    request = RuntimeRequest("0.1.0", "bucket", ("linux/x86_64",), (THIS_PYTHON,), (KEY.public_key_pem(),))
    publish_runtime(request, ports)
    publish_linear(make_folder("one", slope=1.0), "1.0.0", ports)
    publish_linear(make_folder("two", slope=2.0), "1.1.0", ports)
    publish_linear(make_folder("three", slope=3.0), "1.2.0", ports, PemSigner.generate())
    deliver(ports, world)
    asyncio.run(live(world))


async def live(world: World) -> None:
    async with started(world):
        assert await deploy(world, "1.0.0") == "SUCCEEDED"
        first_process = world.process_id(RUNTIME)
        assert await answer(world) == 6.0
        assert await deploy(world, "1.1.0") == "SUCCEEDED"
        assert await answer(world) == 12.0
        assert await deploy(world, "1.2.0") == "FAILED", "signed with a key that the device does not trust"
        assert await answer(world) == 12.0
        assert world.process_id(RUNTIME) == first_process


async def deploy(world: World, version: str) -> str:
    job = world.jobs[world.create_job({RUNTIME: "0.1.0", LINEAR: version})]
    async with asyncio.timeout(DEADLINE_S):
        while job["status"] not in {"SUCCEEDED", "FAILED"}:
            await asyncio.sleep(0.05)
    return str(job["status"])


async def answer(world: World) -> float:
    socket_path = world.root / "work" / RUNTIME / "infer.sock"

    def infer() -> float:
        with Client(socket_path) as client:
            return float(client.infer("linear", {"x": np.array([[1, 2, 3]], np.float32)}).outputs["y"][0, 0])

    return await asyncio.to_thread(infer)
