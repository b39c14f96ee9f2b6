"""What goes wrong around a deployment: daemon, power, broker, source or state file. Measured on the real Lite 2.6.0."""

import asyncio
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from awscrt.exceptions import AwsCrtError
from awsiot import greengrasscoreipc

from simulator.nucleus.errors import StateError
from simulator.nucleus.profile import Profile
from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.pair import MODEL, RUN, RUNTIME, publish_pair
from tests.simulator.nucleus.world import FAST, FAST_JAVA, World, until


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


def test_a_damaged_state_file_is_neither_used_nor_overwritten(root: Path) -> None:
    path = root / "config" / "state.json"
    path.parent.mkdir()
    path.write_text('{"schema": 1')
    with pytest.raises(StateError, match=r"state\.json"):
        asyncio.run(World(root).device.start())
    assert path.read_text() == '{"schema": 1'


@pytest.mark.parametrize("profile", [FAST, FAST_JAVA], ids=["lite", "java"])
def test_a_deployment_that_is_cancelled_on_its_way_is_carried_out_and_blocks_nothing(
    run: Run, profile: Profile
) -> None:
    """AWS: a device that has received a deployment already is not touched by its cancelling. (Lite's source: the same.)"""

    async def scenario(world: World) -> None:
        def take_or_reject(topic: str, payload: bytes) -> None:
            if world.jobs[topic.split("/")[4]]["status"] == "CANCELED":
                world.cloud.deliver(f"{topic}/rejected", b'{"code": "InvalidStateTransition"}')
            else:
                world.take_report(topic, payload)

        world.cloud.answers["$aws/things/station/jobs/+/namespace-aws-gg-deployment/update"] = take_or_reject
        world.publish(RUNTIME, "1.0.0", {"install": "until [ -e {work:path}/go ]; do sleep 0.02; done", **RUN})
        world.publish(RUNTIME, "1.1.0", RUN)
        job_id = world.create_job({RUNTIME: "1.0.0"})
        await until(lambda: (job_id, "IN_PROGRESS") in world.reports)
        world.jobs[job_id]["status"] = "CANCELED"
        go = world.device.places.work(RUNTIME) / "go"
        go.parent.mkdir(parents=True, exist_ok=True)
        go.touch()
        await until(lambda: world.device.verdicts and world.device.verdicts[-1].succeeded)
        assert (world.component(RUNTIME)["state"], world.jobs[job_id]["status"]) == ("RUNNING", "CANCELED")
        assert await world.deploy({RUNTIME: "1.1.0"}) == "SUCCEEDED"

    run(scenario, profile)


@pytest.mark.parametrize("profile", [FAST, FAST_JAVA], ids=["lite", "java"])
def test_an_ipc_daemon_that_is_started_again_has_forgotten_the_tokens_where_they_are_its_own(
    run: Run, profile: Profile
) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", {"run": "echo $SVCUID; exec sleep 1000"})
        await world.deploy({RUNTIME: "1.0.0"})
        await until(lambda: world.log(RUNTIME).endswith("\n"))
        greet = partial(
            greengrasscoreipc.connect,
            ipc_socket=str(world.root / profile.socket_name),
            authtoken=world.log(RUNTIME).strip(),
        )
        (await asyncio.to_thread(greet)).close()
        await world.device.stop_ipc()
        await world.device.start_ipc()
        if profile.forgets_tokens:
            with pytest.raises(AwsCrtError, match="SOCKET_CLOSED"):
                await asyncio.to_thread(greet)
        else:
            (await asyncio.to_thread(greet)).close()
        assert world.component(RUNTIME)["state"] == "RUNNING"

    run(scenario, profile)
