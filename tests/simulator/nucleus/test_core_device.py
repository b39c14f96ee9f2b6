"""Deployments with real processes over in-memory ports. Each case was measured on the real Lite 2.6.0."""

import asyncio
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator.nucleus.core_device import CoreDevice, DeviceOptions
from simulator.nucleus.errors import RootPathError
from simulator.nucleus.ports import InMemoryComponents, InMemoryMessages
from simulator.nucleus.profile import JAVA, Profile
from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.pair import MODEL, NONCE, RUN, RUNTIME, publish_pair
from tests.simulator.nucleus.world import FAST, FAST_JAVA, World, started, until


def test_a_first_deployment_brings_the_runtime_by_its_range(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        world.publish(RUNTIME, "1.4.0", RUN)
        world.publish(RUNTIME, "2.0.0", RUN)
        assert await world.deploy({MODEL: "1.0.0"}) == "SUCCEEDED"
        assert world.reports == [("job-1", "IN_PROGRESS"), ("job-1", "SUCCEEDED")]
        assert world.component(RUNTIME)["version"] == "1.4.0"
        await until(lambda: world.process_id(MODEL) is None)
        assert world.component(MODEL)["state"] == "RUNNING"  # active, though its process has ended
        assert world.log(MODEL) == "activated 1.0.0\n"

    run(scenario)


def test_a_new_model_leaves_the_runtime_alone_and_deletes_the_old_version(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        process_id = world.process_id(RUNTIME)
        world.source.questions.clear()
        publish_pair(world, "1.1.0")
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.1.0"}) == "SUCCEEDED"
        assert world.process_id(RUNTIME) == process_id
        assert world.source.questions == [
            "thing groups",
            f"resolve {MODEL}",
            f"fetch s3://bucket/{MODEL}/1.1.0/bundle.zip",
        ]
        assert not world.device.places.artifacts(MODEL, "1.0.0").exists()
        assert not world.device.places.recipe(MODEL, "1.0.0").exists()

    run(scenario)


def test_an_installed_runtime_in_range_is_kept_without_asking(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0"})
        world.publish(RUNTIME, "1.9.0", RUN)
        assert await world.deploy({MODEL: "1.0.0"}, target="thing/station") == "SUCCEEDED"
        assert world.component(RUNTIME)["version"] == "1.0.0"

    run(scenario)


def test_a_refused_model_fails_after_three_tries_and_keeps_the_old_files(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        process_id = world.process_id(RUNTIME)
        publish_pair(world, "1.1.0", exit_code=1)
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.1.0"}) == "FAILED"
        assert world.log(MODEL) == "activated 1.0.0\n" + 3 * "activated 1.1.0\n"
        assert world.process_id(RUNTIME) == process_id
        assert world.device.places.artifacts(MODEL, "1.0.0").exists()
        assert world.component(MODEL)["state"] == "BROKEN"
        assert world.device.verdicts[-1].code == "component-broken"
        information = next(i for status in world.statuses()[::-1] if (i := status["deploymentInformation"]))
        assert information["statusDetails"] == {"detailedStatus": "FAILED_ROLLBACK_NOT_REQUESTED"}
        publish_pair(world, "1.2.0")
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.2.0"}) == "SUCCEEDED"

    run(scenario)


def test_a_corrupted_artifact_fails_before_anything_stops(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        publish_pair(world, "1.1.0")
        world.source.artifacts[f"s3://bucket/{MODEL}/1.1.0/bundle.zip"] = b"corrupt"
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.1.0"}) == "FAILED"
        assert world.device.verdicts[-1].code == "artifact-digest-mismatch"
        assert world.log(MODEL) == "activated 1.0.0\n"
        assert world.component(MODEL)["version"] == "1.0.0"
        assert (
            world.device.places.artifacts(MODEL, "1.1.0") / "bundle.zip"
        ).read_bytes() == b"corrupt"  # as Lite leaves it
        assert world.device.places.recipe(MODEL, "1.1.0").exists()

    run(scenario)


def test_a_runtime_upgrade_does_not_run_the_model_s_startup_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        process_id = world.process_id(RUNTIME)
        world.publish(RUNTIME, "1.1.0", RUN)
        assert await world.deploy({RUNTIME: "1.1.0", MODEL: "1.0.0"}) == "SUCCEEDED"
        assert world.process_id(RUNTIME) not in {None, process_id}
        assert world.log(MODEL) == "activated 1.0.0\n"

    run(scenario)


def test_the_same_version_again_does_nothing(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"}) == "SUCCEEDED"
        assert world.log(MODEL) == "activated 1.0.0\n"

    run(scenario)


def test_a_configuration_nonce_runs_a_startup_again_on_lite(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        process_id = world.process_id(RUNTIME)
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: NONCE}) == "SUCCEEDED"
        assert world.log(MODEL) == 2 * "activated 1.0.0\n"
        assert world.process_id(RUNTIME) == process_id
        assert world.device._configurations.of(MODEL).value() == {"nonce": "n1"}

    run(scenario)


def test_a_configuration_merge_does_not_restart_on_java(root: Path) -> None:
    async def body() -> None:
        java = replace(JAVA, restart_delay_s=0.05, settle_s=0.0, ready_timeout_s=5.0, reply_timeout_s=1.0)
        world = World(root, java)
        async with started(world):
            publish_pair(world)
            await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
            assert await world.deploy({RUNTIME: "1.0.0", MODEL: NONCE}) == "SUCCEEDED"
            assert world.log(MODEL) == "activated 1.0.0\n"

    asyncio.run(body())


def test_removing_a_component_stops_it_and_forgets_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        assert await world.deploy({RUNTIME: "1.0.0"}) == "SUCCEEDED"
        assert list(world.device.status()["components"]) == [RUNTIME]
        assert not world.device.places.artifacts(MODEL, "1.0.0").exists()

    run(scenario)


def test_contradicting_requirements_fail(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        world.publish(RUNTIME, "2.0.0", RUN)
        assert await world.deploy({RUNTIME: "2.0.0", MODEL: "1.0.0"}) == "FAILED"
        assert world.device.verdicts[-1].code == "resolution-failed"

    run(scenario)


def test_a_job_document_that_is_too_long_is_never_received(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        long = {"version": "1.0.0", "configurationUpdate": {"merge": {"x": "y" * 6_000}}}
        job_id = world.create_job({RUNTIME: long})
        assert world.jobs[job_id]["status"] == "QUEUED"
        del world.jobs[job_id]
        assert await world.deploy({RUNTIME: "1.0.0"}) == "SUCCEEDED"
        assert [reported for reported, _ in world.reports] == ["job-2", "job-2"]

    run(scenario)


@pytest.mark.parametrize(
    "components",
    [{RUNTIME: {}}, {RUNTIME: 3}, {RUNTIME: {"version": "1.0.0", "configurationUpdate": {"merge": []}}}],
)
def test_a_malformed_document_fails_with_the_field_named(run: Run, components: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        assert await world.deploy(components) == "FAILED"
        assert world.device.verdicts[-1].code == "document-invalid"
        assert RUNTIME in world.device.verdicts[-1].message

    run(scenario)


def test_an_archive_is_unpacked_beside_the_artifacts(run: Run) -> None:
    async def scenario(world: World) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("inside/hello.txt", "hello from the archive")
        steps = {"run": "cat {artifacts:decompressedPath}/code/inside/hello.txt"}
        world.publish(RUNTIME, "1.0.0", steps, files={"code.zip": buffer.getvalue()}, unzip=True)
        assert await world.deploy({RUNTIME: "1.0.0"}) == "SUCCEEDED"
        await until(lambda: world.log(RUNTIME) == "hello from the archive")
        world.publish(RUNTIME, "1.1.0", steps, files={"code.zip": b"no archive"}, unzip=True)
        assert await world.deploy({RUNTIME: "1.1.0"}) == "FAILED"
        assert world.device.verdicts[-1].code == "artifact-archive-invalid"

    run(scenario)


def test_defaults_do_not_overrule_what_a_deployment_wrote(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", RUN, defaults={"kept": 1, "free": 1})
        world.publish(RUNTIME, "1.1.0", RUN, defaults={"kept": 2, "free": 2})
        merge = {"version": "1.0.0", "configurationUpdate": {"merge": {"kept": 9}}}
        await world.deploy({RUNTIME: merge})
        await world.deploy({RUNTIME: "1.1.0"})
        configuration = world.device._configurations
        assert configuration.of(RUNTIME).value() == {"kept": 9, "free": 2}
        await world.deploy({RUNTIME: {"version": "1.1.0", "configurationUpdate": {"reset": [""]}}})
        assert configuration.of(RUNTIME).value() == {"kept": 2, "free": 2}

    run(scenario)


def test_a_root_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootPathError, match="too long") as caught:
        CoreDevice(DeviceOptions("t", tmp_path / ("x" * 100)), InMemoryMessages(), InMemoryComponents())
    assert "symbolic link" in caught.value.remedy


@pytest.mark.parametrize("profile", [FAST, FAST_JAVA], ids=["lite", "java"])
def test_a_fleet_status_that_outgrows_the_nucleus_s_buffer_is_never_sent(run: Run, profile: Profile) -> None:
    """(Read in Lite's source: a buffer of 5,000 bytes, and a component takes some 200 of them.)"""

    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", RUN)
        await world.deploy({RUNTIME: "1.0.0"})
        heard = len(world.statuses())
        names = [f"com.example.{'Long' * 10}.{number}" for number in range(3)]
        for name in names:
            world.publish(name, "1.0.0", RUN)
        assert await world.deploy({RUNTIME: "1.0.0", **dict.fromkeys(names, "1.0.0")}) == "SUCCEEDED"
        assert (len(world.statuses()) > heard) == (profile.status_bytes_max is None)

    run(scenario, replace(profile, status_bytes_max=profile.status_bytes_max and 900))
