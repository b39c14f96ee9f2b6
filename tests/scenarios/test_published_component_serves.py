"""What is published runs: our recipes and artifacts, unmodified, on a device that behaves as Greengrass Lite does.

The nucleus is real code with real processes; its ports are in memory, so that no broker and no cloud is needed here.
"""

import asyncio
import base64
import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from cloud.compilation.own_model import OwnModel, compile_own_model
from cloud.publishing.memory import MemoryArtifacts, MemoryComponents
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.publishing.publish_runtime import RuntimeRequest, publish_runtime
from cloud.publishing.signing import PemSigner
from edge_component.client import Client
from tests.cloud.publishing.conftest import KEY, MakeFolder, make_folder
from tests.simulator.nucleus.world import FAST, World, started

__all__ = ["make_folder"]

Array = npt.NDArray[Any]
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


def publish_this_runtime(ports: PublishingPorts) -> None:
    platforms = (f"linux/{platform.machine()}",)
    publish_runtime(RuntimeRequest("0.1.0", "bucket", platforms, (THIS_PYTHON,), (KEY.public_key_pem(),)), ports)


def test_a_published_model_is_installed_activated_replaced_and_refused(
    world: World, ports: PublishingPorts, make_folder: MakeFolder
) -> None:
    publish_this_runtime(ports)
    publish_linear(make_folder("one", slope=1.0), "1.0.0", ports)
    publish_linear(make_folder("two", slope=2.0), "1.1.0", ports)
    publish_linear(make_folder("three", slope=3.0), "1.2.0", ports, PemSigner.generate())
    deliver(ports, world)
    asyncio.run(live(world))


async def live(world: World) -> None:
    async with started(world):
        assert await deploy(world, LINEAR, "1.0.0") == "SUCCEEDED"
        first_process = world.process_id(RUNTIME)
        assert await answer(world) == 6.0
        assert await deploy(world, LINEAR, "1.1.0") == "SUCCEEDED"
        assert await answer(world) == 12.0
        assert await deploy(world, LINEAR, "1.2.0") == "FAILED", "signed with a key that the device does not trust"
        assert await answer(world) == 12.0
        assert world.process_id(RUNTIME) == first_process


async def deploy(world: World, component: str, version: str) -> str:
    job = world.jobs[world.create_job({RUNTIME: "0.1.0", component: version})]
    async with asyncio.timeout(DEADLINE_S):
        while job["status"] not in {"SUCCEEDED", "FAILED"}:
            await asyncio.sleep(0.05)
    return str(job["status"])


async def answer(world: World) -> float:
    outputs = await asyncio.to_thread(infer, world, "linear", {"x": np.array([[1, 2, 3]], np.float32)})
    return float(outputs["y"][0, 0])


def infer(world: World, model: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    with Client(world.root / "work" / RUNTIME / "infer.sock") as client:
        return {name: value.copy() for name, value in client.infer(model, inputs).outputs.items()}


def test_a_model_of_ones_own_answers_as_onnx_runtime_does(
    world: World, ports: PublishingPorts, silero_vad_onnx: Path, tmp_path: Path
) -> None:
    requests = speech(5)
    stacked = {name: np.stack([request[name] for request in requests]) for name in requests[0]}
    np.savez(tmp_path / "samples.npz", **stacked)  # type: ignore[arg-type]
    own = OwnModel(silero_vad_onnx, tmp_path / "samples.npz", "silero-vad")
    compile_own_model(own, tmp_path / "compiled")
    publish_this_runtime(ports)
    publication = publish_model(PublishRequest(tmp_path / "compiled", "auto", "bucket"), KEY, ports)
    deliver(ports, world)
    session = onnxruntime.InferenceSession(silero_vad_onnx, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    async def run() -> None:
        async with started(world):
            assert await deploy(world, publication.component_name, publication.version) == "SUCCEEDED"
            for request in requests:
                answered = await asyncio.to_thread(infer, world, "silero-vad", request)
                for name, expected in zip(names, session.run(None, request), strict=True):
                    np.testing.assert_allclose(answered[name], expected, rtol=1e-4, atol=1e-5)

    asyncio.run(run())


def speech(count: int) -> list[dict[str, Array]]:
    """Requests as Silero VAD takes them: 64 samples of context and 512 of sound at 16 kHz, and a state."""
    random = np.random.default_rng(7)
    return [
        {
            "input": random.normal(0, 0.1, (1, 576)).astype(np.float32),
            "state": np.zeros((2, 1, 128), np.float32),
            "sr": np.array(16_000, np.int64),
        }
        for _ in range(count)
    ]
