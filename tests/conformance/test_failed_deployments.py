"""What a failed deployment leaves behind, on both nuclei as they are simulated: Lite stays where it got, Java goes back.

Lite was measured (FAILED_ROLLBACK_NOT_REQUESTED whatever was asked for); the Java nucleus was read: a snapshot before the
merge, read back when a component is BROKEN, everything downloaded before anything changes.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator.nucleus.profile import Profile
from tests.simulator.nucleus.pair import MODEL, RUNTIME, publish_pair, startup
from tests.simulator.nucleus.world import FAST, FAST_JAVA, World, started, until

Scenario = Callable[[World], Awaitable[None]]
Run = Callable[[Scenario], None]
GOOD = {RUNTIME: "1.0.0", MODEL: "1.0.0"}
TOP = "com.example.Top"


@pytest.fixture(params=[FAST, FAST_JAVA], ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    return replace(request.param, ready_timeout_s=15.0)  # none of these waits for it


@pytest.fixture
def run(profile: Profile) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="gg-") as folder:  # short, since Unix sockets lie below it

        def run(scenario: Scenario) -> None:
            async def body() -> None:
                async with started(World(Path(folder), profile)) as world:
                    await scenario(world)

            asyncio.run(body())

        yield run


def hand_over(profile: Profile, word: str, exit_code: int = 0) -> dict[str, Any]:
    """A startup that says a word and ends well or badly, announced where that is needed."""
    if profile.uses_systemd:
        return startup(word, exit_code)
    return {"startup": {"Script": f"echo {word}\nexit {exit_code}", "Timeout": 5}}


def publish_model(world: World, version: str, exit_code: int = 0, **options: Any) -> None:
    steps = hand_over(world.profile, f"activated {version}", exit_code)
    world.publish(MODEL, version, steps, soft={RUNTIME: ">=1.0.0 <2.0.0"}, **options)


def publish(world: World) -> None:
    publish_pair(world)
    publish_model(world, "1.0.0", defaults={"size": 1})


def detail(world: World) -> str:
    told = [status.get("deploymentInformation", {}) for status in world.statuses()]
    return str([one["statusDetails"]["detailedStatus"] for one in told if "statusDetails" in one][-1])


def size(world: World) -> object:
    document = world.device._configurations.of(MODEL).value()
    assert isinstance(document, dict)
    return document["size"]


def test_a_model_that_is_refused_is_followed_by_the_one_before_where_the_nucleus_goes_back(
    run: Run, profile: Profile
) -> None:
    async def scenario(world: World) -> None:
        publish(world)
        assert await world.deploy(GOOD) == "SUCCEEDED"
        process_id = world.process_id(RUNTIME)
        publish_model(world, "1.1.0", exit_code=1)
        wanted = {"version": "1.1.0", "configurationUpdate": {"merge": {"size": 2}}}
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: wanted}) == "FAILED"
        assert world.device.verdicts[-1].code == "component-broken"
        assert world.log(MODEL).count("activated 1.1.0") == 3
        assert world.process_id(RUNTIME) == process_id
        model = world.component(MODEL)
        if profile.rolls_back:
            assert (model["version"], model["state"], size(world)) == ("1.0.0", "RUNNING", 1)
            assert world.log(MODEL).endswith("activated 1.0.0\n")
            assert detail(world) == "FAILED_ROLLBACK_COMPLETE"
        else:
            assert (model["version"], model["state"], size(world)) == ("1.1.0", "BROKEN", 2)
            assert detail(world) == "FAILED_ROLLBACK_NOT_REQUESTED"
        publish_model(world, "1.2.0")
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.2.0"}) == "SUCCEEDED"
        assert world.process_id(RUNTIME) == process_id

    run(scenario)


def test_what_a_failed_deployment_added_goes_where_the_nucleus_goes_back(run: Run, profile: Profile) -> None:
    async def scenario(world: World) -> None:
        publish(world)
        assert await world.deploy(GOOD) == "SUCCEEDED"
        world.publish(TOP, "1.0.0", {"install": "exit 1", "run": "exec sleep 1000"})
        assert await world.deploy({**GOOD, TOP: "1.0.0"}) == "FAILED"
        assert (TOP in world.device.status()["components"]) != profile.rolls_back
        assert await world.deploy(GOOD) == "SUCCEEDED"

    run(scenario)


def test_an_artifact_that_does_not_match_changes_nothing_where_all_are_fetched_first(
    run: Run, profile: Profile
) -> None:
    async def scenario(world: World) -> None:
        publish(world)
        assert await world.deploy(GOOD) == "SUCCEEDED"
        world.publish(RUNTIME, "1.1.0", {"run": "exec sleep 1000"})
        publish_model(world, "1.1.0", files={"bundle.zip": b"good"})
        world.source.artifacts[f"s3://bucket/{MODEL}/1.1.0/bundle.zip"] = b"bad!"
        process_id = world.process_id(RUNTIME)
        assert await world.deploy({RUNTIME: "1.1.0", MODEL: "1.1.0"}) == "FAILED"
        assert world.device.verdicts[-1].code == "artifact-digest-mismatch"
        assert world.process_id(RUNTIME) == process_id
        recorded = world.component(RUNTIME)["version"]
        if profile.rolls_back:
            assert (recorded, detail(world)) == ("1.0.0", "FAILED_NO_STATE_CHANGE")
        else:
            assert (recorded, detail(world)) == ("1.1.0", "FAILED_ROLLBACK_NOT_REQUESTED")

    run(scenario)


def test_where_no_rollback_is_asked_for_both_stay(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish(world)
        assert await world.deploy(GOOD) == "SUCCEEDED"
        publish_model(world, "1.1.0", exit_code=1)
        job_id = world.create_job({RUNTIME: "1.0.0", MODEL: "1.1.0"}, policy="DO_NOTHING")
        await until(lambda: world.jobs[job_id]["status"] == "FAILED")
        assert world.component(MODEL)["version"] == "1.1.0"
        assert world.component(MODEL)["state"] == "BROKEN"
        assert detail(world) == "FAILED_ROLLBACK_NOT_REQUESTED"

    run(scenario)


def test_a_way_back_that_fails_is_said(run: Run, profile: Profile) -> None:
    async def scenario(world: World) -> None:
        world.publish(TOP, "1.0.0", {"install": "test ! -e done && touch done", "run": "exec sleep 1000"})
        world.publish(TOP, "1.1.0", {"install": "exit 1", "run": "exec sleep 1000"})
        await world.deploy({TOP: "1.0.0"})
        assert await world.deploy({TOP: "1.1.0"}) == "FAILED"
        if profile.rolls_back:
            assert detail(world) == "FAILED_UNABLE_TO_ROLLBACK"
            assert "And going back failed" in world.device.verdicts[-1].message
            assert world.component(TOP)["version"] == "1.0.0"

    run(scenario)
