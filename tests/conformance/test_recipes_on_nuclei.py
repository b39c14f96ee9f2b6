"""Every recipe that publishing writes, read and run by both nuclei as they are simulated: keys, manifests, variables, nonce."""

import asyncio
import base64
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.publishing.recipe import (
    MODEL_TEMPLATE,
    RETIRED_TEMPLATE,
    RUNTIME_TEMPLATE,
    ModelArtifacts,
    ModelRecipe,
    RetiredRecipe,
    RuntimeRecipe,
    model_recipe,
    retired_recipe,
    runtime_recipe,
)
from simulator.nucleus.configuration import Configuration
from simulator.nucleus.interpolation import Places, Variables, interpolate
from simulator.nucleus.ports import Platform
from simulator.nucleus.profile import JAVA, LITE, Profile
from simulator.nucleus.recipe import parse_recipe
from tests.simulator.nucleus.world import FAST, FAST_JAVA, World, started, until

ROOT = Path(__file__).resolve().parents[2]
MODEL, RUNTIME = "com.edgewright.model.Weather", "com.edgewright.Runtime"
RUN = {"run": "exec sleep 1000"}
PLATFORMS = ("linux/aarch64", "linux/x86_64")

OWN_HAND_OVER = b"""
import os, socket, sys
print("handed over", flush=True)
if os.environ.get("NOTIFY_SOCKET"):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"""


def template(name: str) -> str:
    return (ROOT / "recipes" / name).read_text()


def recipes() -> dict[str, bytes]:
    """By their names, as long as names can be."""
    artifacts = tuple(ModelArtifacts(p, f"s3://b/k/W-{p[6:]}.zip", "s3://b/k/activate.py") for p in PLATFORMS)
    uris = {platform: f"s3://b/k/edgewright-runtime-0.1.0-{platform[6:]}.zip" for platform in PLATFORMS}
    return {
        "model": model_recipe(template(MODEL_TEMPLATE), ModelRecipe(MODEL, "1.0.0", "a model", artifacts)),
        "retired": retired_recipe(
            template(RETIRED_TEMPLATE), RetiredRecipe(MODEL, "weather", "0.0.1", "s3://b/k/activate.py")
        ),
        "runtime": runtime_recipe(template(RUNTIME_TEMPLATE), RuntimeRecipe("0.1.0", uris, "edgewright_ingest")),
    }


@pytest.mark.parametrize("profile", [LITE, JAVA], ids=lambda profile: profile.name)
@pytest.mark.parametrize("architecture", ["amd64", "aarch64"])
@pytest.mark.parametrize("kind", ["model", "retired", "runtime"])
def test_a_recipe_is_read_and_every_brace_in_it_is_replaced(kind: str, architecture: str, profile: Profile) -> None:
    recipe = parse_recipe(recipes()[kind], profile, Platform("linux", architecture, profile.runtime, ""))
    configuration, _ = Configuration().merge((), recipe.defaults, 0)
    variables = Variables(Places(Path("/gg")), "station", recipe.name, recipe.version, configuration)
    assert recipe.main_step == ("run" if kind == "runtime" else "startup")
    assert recipe.artifacts
    for step in recipe.steps.values():
        assert "{" not in interpolate(step.script, variables, profile)
    assert ("install" in recipe.steps) == (kind == "runtime")


@pytest.fixture
def root() -> Iterator[Path]:
    """Short, since Unix sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="gg-") as folder:
        yield Path(folder)


def publish(world: World) -> None:
    """The model's recipe as the cloud keeps it, with a hand-over that only says that it ran."""
    recipe = json.loads(recipes()["model"])
    for manifest in recipe["Manifests"]:
        for artifact in manifest["Artifacts"]:
            data = OWN_HAND_OVER if artifact["Uri"].endswith(".py") else b"a bundle"
            world.source.artifacts[artifact["Uri"]] = data
            artifact["Digest"] = base64.b64encode(hashlib.sha256(data).digest()).decode()
            artifact["Algorithm"] = "SHA-256"
    world.source.recipes[MODEL, "1.0.0"] = json.dumps(recipe).encode()
    world.publish(RUNTIME, "1.0.0", RUN)


@pytest.mark.parametrize("profile", [FAST, FAST_JAVA], ids=lambda profile: profile.name)
def test_a_repair_s_nonce_runs_a_model_s_hand_over_again_and_leaves_the_runtime_alone(
    root: Path, profile: Profile
) -> None:
    """On the Java nucleus a changed configuration alone would not: the script has to read otherwise."""
    wanted = {"version": "1.0.0", "configurationUpdate": {"merge": {"nonce": "20260101T000000Z-1"}}}

    async def body() -> None:
        async with started(World(root, replace(profile, settle_s=0.0))) as world:
            publish(world)
            assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"}) == "SUCCEEDED"
            before = world.process_id(RUNTIME)
            assert await world.deploy({RUNTIME: "1.0.0", MODEL: wanted}) == "SUCCEEDED"
            await until(lambda: world.log(MODEL) == 2 * "handed over\n")
            assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"}) == "SUCCEEDED"
            assert world.log(MODEL) == 2 * "handed over\n"
            assert world.process_id(RUNTIME) == before

    asyncio.run(body())
