"""Deployments with real processes over in-memory ports. Each case was measured on the real Lite 2.6.0."""

import asyncio
import io
import os
import signal
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator.nucleus.core_device import CoreDevice, DeviceOptions
from simulator.nucleus.errors import RootPathError, StateError
from simulator.nucleus.ports import InMemoryComponents, InMemoryMessages
from simulator.nucleus.profile import JAVA
from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.world import FAST, World, started, until

RUNTIME, MODEL = "com.example.Runtime", "com.example.Model"
RUN = {"run": "echo running {work:path}\nexec sleep 1000"}
NOTIFY = (
    "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
    "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])"
)


def startup(word: str = "activated", exit_code: int = 0) -> dict[str, Any]:
    """The measured form of a hand-over: exec, own announcement only on success, exit code as the verdict."""
    program = f"print('{word}', flush=True)\n"
    program += "raise SystemExit(1)" if exit_code else NOTIFY.replace("; ", "\n")
    return {"startup": {"Script": f'exec python3 -c "{program}"', "Timeout": 5}}


def publish_pair(world: World, model_version: str = "1.0.0", exit_code: int = 0) -> None:
    world.publish(RUNTIME, "1.0.0", RUN)
    world.publish(
        MODEL, model_version, startup(f"activated {model_version}", exit_code),
        soft={RUNTIME: ">=1.0.0 <2.0.0"}, files={"bundle.zip": model_version.encode()},
    )  # fmt: skip


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


NONCE = {"version": "1.0.0", "configurationUpdate": {"merge": {"nonce": "n1"}}}


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


def test_a_killed_daemon_later_reports_success_for_a_startup_that_never_ran(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        publish_pair(world, "1.1.0")
        world.device.surprises.daemon_dies_after = "record"
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.1.0"}) == "SUCCEEDED"
        assert world.log(MODEL) == "activated 1.0.0\n"
        assert (world.component(MODEL)["version"], world.component(MODEL)["unit_version"]) == ("1.1.0", "1.0.0")
        told = {entry["componentName"]: entry for entry in world.statuses()[-1]["components"]}
        assert (told[MODEL]["version"], told[MODEL]["status"]) == ("1.1.0", "RUNNING")
        nonce = {"version": "1.1.0", "configurationUpdate": {"merge": {"nonce": "n2"}}}
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: nonce}) == "SUCCEEDED"  # what repairs it
        assert world.log(MODEL) == "activated 1.0.0\nactivated 1.1.0\n"

    run(scenario)


def test_a_killed_daemon_before_the_record_does_it_all_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        world.device.surprises.daemon_dies_after = "resolve"
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"}) == "SUCCEEDED"
        assert world.log(MODEL) == "activated 1.0.0\n"
        assert [status for _, status in world.reports] == ["IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED"]

    run(scenario)


def test_a_restarted_nucleus_runs_startups_again_and_keeps_everything(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        sequence = world.statuses()[-1]["sequenceNumber"]
        before = world.process_id(RUNTIME)
        await world.device.restart_nucleus()
        await until(lambda: world.log(MODEL) == 2 * "activated 1.0.0\n")
        assert world.process_id(RUNTIME) not in {None, before}
        await until(lambda: world.statuses()[-1]["trigger"] == "NUCLEUS_LAUNCH")
        assert world.statuses()[-1]["sequenceNumber"] > sequence

    run(scenario)


def test_power_off_leaves_no_process_and_a_new_life_finds_the_state(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        process_id = world.process_id(RUNTIME)
        assert process_id is not None
        said = len(world.statuses())
        await world.device.power_off()
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)
        assert len(world.statuses()) == said
        world.device = world.make_device()
        await world.device.start()
        await until(lambda: world.log(MODEL) == 2 * "activated 1.0.0\n")
        assert world.component(RUNTIME)["state"] == "RUNNING"

    run(scenario)


def test_the_broker_gone_during_a_deployment_loses_the_report_and_repeats_it(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        world.device.surprises.start_delay_s[MODEL] = 0.3
        job_id = world.create_job({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        await until(lambda: world.reports == [(job_id, "IN_PROGRESS")])
        world.cloud.online(False)
        await until(lambda: world.device.verdicts)
        assert world.device.verdicts[-1].succeeded
        assert world.jobs[job_id]["status"] == "IN_PROGRESS"
        world.cloud.online(True)
        await until(lambda: world.jobs[job_id]["status"] == "SUCCEEDED")
        assert world.log(MODEL) == "activated 1.0.0\n"
        assert "RECONNECT" in [status["trigger"] for status in world.statuses()]

    run(scenario)


def test_a_question_that_nobody_answered_is_asked_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        get = "$aws/things/station/jobs/$next/namespace-aws-gg-deployment/get"
        answer = world.cloud.answers.pop(get)
        world.cloud.online(False)
        job_id = world.create_job({RUNTIME: "1.0.0"})
        world.cloud.online(True)  # the device is back before the cloud's own subscriber is
        await until(lambda: any(published.topic == get for published in world.cloud.published))
        world.cloud.answers[get] = answer
        await until(lambda: world.jobs[job_id]["status"] == "SUCCEEDED")

    run(scenario, replace(FAST, describe_timeout_s=0.2))


def test_a_source_that_does_not_answer_is_waited_for(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        world.source.reachable = False
        job_id = world.create_job({MODEL: "1.0.0"})
        await until(lambda: world.reports == [(job_id, "IN_PROGRESS")])
        world.source.reachable = True
        await until(lambda: world.jobs[job_id]["status"] == "SUCCEEDED")

    run(scenario)


def test_a_killed_runtime_comes_back_and_is_broken_after_three(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_pair(world)
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        for _ in range(2):
            before = world.process_id(RUNTIME)
            assert world.device.kill_component(RUNTIME, signal.SIGKILL)
            await until(lambda before=before: world.process_id(RUNTIME) not in {None, before})
        world.device.kill_component(RUNTIME)
        await until(lambda: world.component(RUNTIME)["state"] == "BROKEN")
        assert world.log(MODEL) == "activated 1.0.0\n"  # the model's startup is not run again
        await until(lambda: world.statuses()[-1]["overallDeviceStatus"] == "UNHEALTHY")
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"}) == "SUCCEEDED"  # until the next deployment
        assert world.component(RUNTIME)["state"] == "RUNNING"

    run(scenario)


def test_exit_0_is_never_restarted(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", {"run": "echo once; exit 0"})
        assert await world.deploy({RUNTIME: "1.0.0"}) == "SUCCEEDED"
        await until(lambda: world.component(RUNTIME)["state"] == "FINISHED")
        assert world.log(RUNTIME) == "once\n"

    run(scenario)


def test_an_install_only_component_waits_for_the_whole_timeout_and_fails(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(MODEL, "1.0.0", {"install": "echo installed"})
        assert await world.deploy({MODEL: "1.0.0"}) == "FAILED"
        assert world.device.verdicts[-1].code == "component-not-ready"
        assert "startup" in world.device.verdicts[-1].message
        assert world.log(MODEL) == "installed\n"

    run(scenario, replace(FAST, ready_timeout_s=0.5))


def test_a_version_without_install_runs_the_one_before_again(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", {"install": "echo install of 1.0.0", **RUN})
        world.publish(RUNTIME, "1.1.0", RUN)
        await world.deploy({RUNTIME: "1.0.0"})
        assert await world.deploy({RUNTIME: "1.1.0"}) == "SUCCEEDED"
        assert world.log(RUNTIME).count("install of 1.0.0") == 2

    run(scenario)


def test_a_failing_install_stops_nothing(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", RUN)
        world.publish(RUNTIME, "1.1.0", {"install": "echo no wheels; exit 3", **RUN})
        await world.deploy({RUNTIME: "1.0.0"})
        process_id = world.process_id(RUNTIME)
        assert await world.deploy({RUNTIME: "1.1.0"}) == "FAILED"
        assert world.process_id(RUNTIME) == process_id
        assert world.log(RUNTIME).count("no wheels") == 3
        assert "exit code 3" in world.device.verdicts[-1].message

    run(scenario)


def test_an_unknown_variable_fails_the_deployment(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(MODEL, "1.0.0", {"run": "echo ${HOME}"})
        assert await world.deploy({MODEL: "1.0.0"}) == "FAILED"
        assert "not a recipe variable" in world.log(MODEL)

    run(scenario)


@pytest.mark.parametrize(("release_253", "state"), [(False, "BROKEN"), (True, "FINISHED")])
def test_a_plain_startup_script_meets_the_appended_systemd_notify(run: Run, release_253: bool, state: str) -> None:
    """A good one is tried three times and is BROKEN on Debian 12, where --stopping is unknown …"""

    async def scenario(world: World) -> None:
        world.publish(MODEL, "1.0.0", {"startup": "echo done"})
        await world.deploy({MODEL: "1.0.0"})
        await until(lambda: world.component(MODEL)["state"] == state)
        assert world.log(MODEL).count("done") == (1 if release_253 else 3)

    run(scenario, replace(FAST, knows_notify_stopping=release_253))


def test_a_plain_failing_startup_is_reported_as_success(run: Run) -> None:
    """… and a failing one succeeds where it is known: why the hand-over is ``exec … --notify``."""

    async def scenario(world: World) -> None:
        world.publish(MODEL, "1.0.0", {"startup": 'python3 -c "raise SystemExit(1)"'})
        assert await world.deploy({MODEL: "1.0.0"}) == "SUCCEEDED"

    run(scenario, replace(FAST, knows_notify_stopping=True))


def test_a_hard_dependency_takes_its_dependent_down(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish("com.example.Base", "1.0.0", RUN)
        world.publish("com.example.Top", "1.0.0", RUN, hard={"com.example.Base": "*"})
        await world.deploy({"com.example.Top": "1.0.0"})
        world.publish("com.example.Base", "1.1.0", RUN)
        before = world.process_id("com.example.Top")
        assert await world.deploy({"com.example.Top": "1.0.0", "com.example.Base": "1.1.0"}) == "SUCCEEDED"
        await until(lambda: world.process_id("com.example.Top") not in {None, before})

    run(scenario)


def test_hard_on_an_install_only_component_never_starts(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish("com.example.Base", "1.0.0", {"install": "true"})
        world.publish("com.example.Top", "1.0.0", RUN, hard={"com.example.Base": "*"})
        assert await world.deploy({"com.example.Top": "1.0.0"}) == "FAILED"
        assert world.component("com.example.Top")["state"] == "INSTALLED"

    run(scenario, replace(FAST, ready_timeout_s=0.5))


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


def test_a_component_s_environment_is_the_measured_one(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", {"Setenv": {"OWN": "{iot:thingName}"}, "run": "env; command -v python3; pwd"})
        await world.deploy({RUNTIME: "1.0.0"})
        await until(lambda: world.component(RUNTIME)["state"] == "FINISHED")
        *lines, python, folder = world.log(RUNTIME).splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        assert environment["AWS_IOT_THING_NAME"] == environment["OWN"] == "station"
        assert len(environment["SVCUID"]) == 16
        assert environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == environment["SVCUID"]
        assert environment["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"] == str(world.root / "gg-ipc.socket")
        assert environment["GGC_VERSION"] == "2.6.0"
        assert "VIRTUAL_ENV" not in environment
        assert "NOTIFY_SOCKET" not in environment
        assert Path(folder) == world.root / "work" / RUNTIME
        assert not Path(python).resolve().is_relative_to(Path(os.environ.get("VIRTUAL_ENV", "/nowhere")))

    run(scenario)


def test_a_root_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootPathError, match="too long") as caught:
        CoreDevice(DeviceOptions("t", tmp_path / ("x" * 100)), InMemoryMessages(), InMemoryComponents())
    assert "symbolic link" in caught.value.remedy


def test_a_damaged_state_file_is_neither_used_nor_overwritten(root: Path) -> None:
    path = root / "config" / "state.json"
    path.parent.mkdir()
    path.write_text('{"schema": 1')
    with pytest.raises(StateError, match=r"state\.json"):
        asyncio.run(World(root).device.start())
    assert path.read_text() == '{"schema": 1'
