"""What the Java nucleus does with components otherwise than Lite: dependencies, variables, Skipif. Source-derived."""

import asyncio
import json

import pytest

from simulator.nucleus.profile import Profile
from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.world import FAST, FAST_JAVA, World, until

BASE, TOP = "com.example.Base", "com.example.Top"
RUN = {"run": "exec sleep 1000"}


@pytest.mark.parametrize(
    "steps",
    [{"run": "exit 0"}, {"startup": "exit 0"}, {"install": "true"}, {}],
    ids=["run", "startup", "install", "none"],
)
def test_a_hard_dependency_may_have_finished(run: Run, steps: dict[str, str]) -> None:
    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", steps)
        world.publish(TOP, "1.0.0", RUN, hard={BASE: "*"})
        assert await world.deploy({TOP: "1.0.0"}) == "SUCCEEDED"
        assert world.component(TOP)["state"] == "RUNNING"
        assert world.component(BASE)["state"] in {"FINISHED", "RUNNING"}

    run(scenario, FAST_JAVA)


def test_replacing_a_hard_dependency_restarts_its_dependent_and_replacing_a_soft_one_does_not(run: Run) -> None:
    async def scenario(world: World) -> None:
        soft_top = "com.example.Soft"
        for version in ("1.0.0", "1.1.0"):
            world.publish(BASE, version, RUN)
        world.publish(TOP, "1.0.0", RUN, hard={BASE: "*"})
        world.publish(soft_top, "1.0.0", RUN, soft={BASE: "*"})
        roots = {TOP: "1.0.0", soft_top: "1.0.0"}
        await world.deploy({BASE: "1.0.0", **roots})
        hard, soft = world.process_id(TOP), world.process_id(soft_top)
        assert await world.deploy({BASE: "1.1.0", **roots}) == "SUCCEEDED"
        await until(lambda: world.process_id(TOP) not in {None, hard})
        assert world.process_id(soft_top) == soft

    run(scenario, FAST_JAVA)


@pytest.mark.parametrize("profile", [FAST, FAST_JAVA], ids=["lite", "java"])
def test_restarting_a_hard_dependency_restarts_its_dependent(run: Run, profile: Profile) -> None:
    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", RUN)
        world.publish(TOP, "1.0.0", RUN, hard={BASE: "*"})
        await world.deploy({TOP: "1.0.0"})
        before = world.process_id(TOP)
        await world.device.supervisor.restart(BASE)
        await until(lambda: world.process_id(TOP) not in {None, before})
        await until(lambda: world.component(TOP)["state"] == "RUNNING")

    run(scenario, profile)


def test_what_has_finished_is_not_run_again_by_a_deployment_of_something_else(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", {"run": "echo once"})
        world.publish(TOP, "1.0.0", RUN)
        await world.deploy({BASE: "1.0.0"})
        await until(lambda: world.component(BASE)["state"] == "FINISHED")
        assert await world.deploy({BASE: "1.0.0", TOP: "1.0.0"}) == "SUCCEEDED"
        assert world.log(BASE) == "once\n"

    run(scenario, FAST_JAVA)


def test_variables_of_a_declared_dependency_are_replaced_and_others_stay(run: Run) -> None:
    script = (
        "echo '{com.example.Base:artifacts:path}' '{com.example.Base:configuration:/size}' '{com.example.No:work:path}'"
    )

    async def scenario(world: World) -> None:
        world.publish(BASE, "1.2.0", {}, defaults={"size": 7}, files={"a.bin": b"a"})
        world.publish(TOP, "1.0.0", {"install": script, **RUN}, soft={BASE: "*"})
        assert await world.deploy({TOP: "1.0.0"}) == "SUCCEEDED"
        folder, size, stranger = world.log(TOP).split()
        assert folder == f"{world.device.places.artifacts(BASE, '1.2.0')}/"
        assert (size, stranger) == ("7", "{com.example.No:work:path}")

    run(scenario, FAST_JAVA)


def test_a_configuration_that_a_step_names_restarts_its_component_and_no_other_does(run: Run) -> None:
    """(A script is replaced before it is compared; what install says runs install again.)"""
    merge = {"configurationUpdate": {"merge": {"size": 8, "other": 1}}, "version": "1.0.0"}
    steps = {"install": "echo installed", "run": "echo {configuration:/size}; exec sleep 1000"}

    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", steps, defaults={"size": 7})
        world.publish(
            TOP, "1.0.0", {"run": "echo {com.example.Base:configuration:/size}; exec sleep 1000"}, soft={BASE: "*"}
        )
        quiet = "com.example.Quiet"
        world.publish(quiet, "1.0.0", RUN, soft={BASE: "*"})
        await world.deploy({BASE: "1.0.0", TOP: "1.0.0", quiet: "1.0.0"})
        before = world.process_id(quiet)
        assert await world.deploy({BASE: merge, TOP: "1.0.0", quiet: "1.0.0"}) == "SUCCEEDED"
        await until(lambda: world.log(TOP) == "7\n8\n")
        assert world.log(BASE) == "installed\n7\n8\n"
        assert world.process_id(quiet) == before

    run(scenario, FAST_JAVA)


@pytest.mark.parametrize(
    ("condition", "is_run"),
    [("onpath sh", False), ("onpath no-such-program", True), ("exists /", False), ("exists {work:path}/none", True)],
)
def test_a_step_whose_skipif_holds_is_not_run(run: Run, condition: str, is_run: bool) -> None:
    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", {"install": {"Script": "echo installed", "Skipif": condition}, **RUN})
        assert await world.deploy({BASE: "1.0.0"}) == "SUCCEEDED"
        assert (world.log(BASE) == "installed\n") == is_run

    run(scenario, FAST_JAVA)


def test_lite_overlooks_skipif_shutdown_and_recover(run: Run) -> None:
    async def scenario(world: World) -> None:
        steps = {"install": {"Script": "echo installed", "Skipif": "exists /"}, "shutdown": "echo down", "recover": "x"}
        world.publish(BASE, "1.0.0", {**steps, **RUN})
        assert await world.deploy({BASE: "1.0.0"}) == "SUCCEEDED"
        await world.device.supervisor.stop_all()
        assert world.log(BASE) == "installed\n"

    run(scenario, FAST)


@pytest.mark.parametrize(
    ("profile", "step"),
    [(FAST, "bootstrap"), (FAST, "uninstall")]
    + [(FAST_JAVA, step) for step in ("bootstrap", "shutdown", "recover", "uninstall")],
)
def test_a_step_that_is_not_simulated_is_named_and_nothing_is_done(run: Run, profile: Profile, step: str) -> None:
    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", {step: "exit 101", **RUN})
        assert await world.deploy({BASE: "1.0.0"}) == "FAILED"
        verdict = world.device.verdicts[-1]
        assert verdict.code == "not-simulated"
        assert f"Lifecycle.{step}" in verdict.message
        assert world.device.status()["components"] == {}

    run(scenario, profile)


def test_what_could_not_be_resolved_changes_nothing_and_is_forgotten(run: Run) -> None:
    """(On Lite the refused requirement stays with its target.)"""

    async def scenario(world: World) -> None:
        world.source.groups = ("ring", "other")
        world.publish(BASE, "1.0.0", RUN)
        await world.deploy({BASE: "1.0.0"})
        assert await world.deploy({BASE: ">=2.0.0"}, target="thinggroup/other") == "FAILED"
        told = [status["deploymentInformation"] for status in world.statuses() if "deploymentInformation" in status]
        assert told[-1]["statusDetails"] == {"detailedStatus": "FAILED_NO_STATE_CHANGE"}
        assert "rollback" not in world.device.verdicts[-1].message
        assert await world.deploy({BASE: "1.0.0"}) == "SUCCEEDED"

    run(scenario, FAST_JAVA)


@pytest.mark.parametrize("profile", [FAST, FAST_JAVA], ids=["lite", "java"])
def test_a_component_that_reports_errored_has_failed_where_that_is_heard(run: Run, profile: Profile) -> None:
    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", RUN)
        await world.deploy({BASE: "1.0.0"})
        before = world.process_id(BASE)
        world.device.supervisor.report_state(BASE, "ERRORED")
        if profile.errored_fails:
            await until(lambda: world.process_id(BASE) not in {None, before})
        else:
            assert world.process_id(BASE) == before

    run(scenario, profile)


@pytest.mark.parametrize("end", ["stop", "power_off"])
def test_nothing_is_started_any_more_once_the_device_ends(run: Run, end: str) -> None:
    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", {"startup": "sleep 1000 & sleep 0.3; exit 0"})
        world.publish(TOP, "1.0.0", {"run": "echo started; exec sleep 1000"}, hard={BASE: "*"})
        assert await world.deploy({TOP: "1.0.0"}) == "SUCCEEDED"
        await until(lambda: world.log(TOP) == "started\n")
        await world.device.supervisor.restart(BASE)  # the dependent waits for it
        await (world.device.stop() if end == "stop" else world.device.power_off())
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=1.0)  # whatever still wants to happen
        assert world.device.supervisor.process_id(TOP) is None
        assert world.log(TOP) == "started\n"

    run(scenario, FAST_JAVA)


def test_a_job_that_is_announced_while_an_older_answer_is_on_its_way_is_asked_for(run: Run) -> None:
    """The announcement names no job, and the answer that comes next may be from before it."""

    async def scenario(world: World) -> None:
        world.publish(BASE, "1.0.0", RUN)
        world.publish(BASE, "1.1.0", RUN)
        assert await world.deploy({BASE: "1.0.0"}) == "SUCCEEDED"
        asked: list[int] = []
        get = "$aws/things/station/jobs/$next/namespace-aws-gg-deployment/get"
        world.cloud.answers[get] = lambda *_: asked.append(len(asked))
        job_id = world.create_job({BASE: "1.1.0"})
        await until(lambda: len(asked) == 1)
        summary = json.dumps({"jobs": {"QUEUED": [{"jobId": job_id}]}}).encode()
        world.cloud.deliver("$aws/things/station/jobs/notify-namespace-aws-gg-deployment", summary)
        world.cloud.deliver(f"{get}/accepted", b"{}")
        await until(lambda: len(asked) == 2)
        world.offer()
        await until(lambda: world.jobs[job_id]["status"] == "SUCCEEDED")

    run(scenario, FAST_JAVA)
