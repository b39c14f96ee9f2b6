"""How components start, fail, are tried again and depend on each other. Measured on the real Lite 2.6.0."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.pair import MODEL, RUN, RUNTIME, publish_pair
from tests.simulator.nucleus.world import FAST, World, until


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


def test_a_component_beyond_this_nucleus_s_places_cannot_start_until_it_is_restarted(run: Run) -> None:
    """A removed one keeps its place. (Read in Lite's source, where there are 50.)"""

    async def scenario(world: World) -> None:
        first, second, third = "com.example.A", "com.example.B", "com.example.C"
        for name in (first, second, third):
            world.publish(name, "1.0.0", RUN)
        assert await world.deploy({first: "1.0.0", second: "1.0.0"}) == "SUCCEEDED"
        assert await world.deploy({first: "1.0.0"}) == "SUCCEEDED"
        assert await world.deploy({first: "1.0.0", third: "1.0.0"}) == "FAILED"
        assert "removed ones included" in world.log(third)
        assert world.component(first)["state"] == "RUNNING"
        await world.device.restart_nucleus()
        await until(lambda: world.component(third)["state"] == "RUNNING")

    run(scenario, replace(FAST, components_max=2))


@pytest.mark.parametrize(
    "steps", [{"run": "echo \0"}, {"Setenv": {"A": "a\0b"}, "run": "sleep 9"}], ids=["script", "Setenv"]
)
def test_a_script_that_cannot_be_started_is_tried_and_broken_and_says_why(run: Run, steps: dict[str, object]) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", steps)
        await world.deploy({RUNTIME: "1.0.0"})
        await until(lambda: world.component(RUNTIME)["state"] == "BROKEN")
        assert world.log(RUNTIME).count("cannot be started") == 3

    run(scenario)


def test_a_recipe_of_another_name_fails_its_deployment_and_not_the_daemon(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", RUN)
        world.publish(MODEL, "1.0.0", RUN)
        good = world.source.recipes[RUNTIME, "1.0.0"]
        world.source.recipes[RUNTIME, "1.0.0"] = world.source.recipes[MODEL, "1.0.0"]
        assert await world.deploy({RUNTIME: "1.0.0"}) == "FAILED"
        assert f"calls itself {MODEL}" in world.device.verdicts[-1].message
        world.source.recipes[RUNTIME, "1.0.0"] = good
        assert await world.deploy({RUNTIME: "1.0.0"}) == "SUCCEEDED"

    run(scenario)


def test_a_defect_of_the_simulator_is_one_deployment_s_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", RUN)
        with monkeypatch.context() as patched:
            patched.setattr("simulator.nucleus.deployment.make_plan", lambda *_: {}["nothing"])
            assert await world.deploy({RUNTIME: "1.0.0"}) == "FAILED"
        assert "unforeseen error of the simulator: KeyError" in world.device.verdicts[-1].message
        assert await world.deploy({RUNTIME: "1.0.0"}) == "SUCCEEDED"

    run(scenario)


def test_a_defect_outside_a_deployment_costs_one_daemon(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", RUN)
        with monkeypatch.context() as patched:
            patched.setattr("simulator.nucleus.core_device.parse_deployment", lambda *_: {}["nothing"])
            job_id = world.create_job({RUNTIME: "1.0.0"})
            await until(lambda: (job_id, "IN_PROGRESS") in world.reports)
        await until(lambda: world.jobs[job_id]["status"] == "SUCCEEDED")

    run(scenario)
