"""The control socket: what makes no sense is answered with a sentence, and the device is as it was."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from simulator.nucleus.control import ControlServer, ask_device
from simulator.nucleus.errors import ControlError
from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.world import World

Ask = Callable[..., Awaitable[Any]]


def controlled(run: Run, scenario: Callable[[World, Ask], Awaitable[None]]) -> None:
    async def body(world: World) -> None:
        server = ControlServer(world.device)
        await server.start()

        async def ask(command: str, **arguments: object) -> Any:
            return await asyncio.to_thread(ask_device, world.root, command, **arguments)

        try:
            await scenario(world, ask)
        finally:
            await server.close()

    run(body)


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("power-on", {}, "has power already"),
        ("start-ipc", {}, "runs already"),
        ("kill-component", {"name": "a", "signal": "SIGNOW"}, "no signal SIGNOW"),
        ("surprise", {"daemon_dies_after": "lunch"}, "no phase 'lunch'"),
        ("format-disk", {}, "not a command"),
    ],
)
def test_a_running_device_refuses_and_runs_on(run: Run, command: str, arguments: dict[str, object], words: str) -> None:
    async def scenario(world: World, ask: Ask) -> None:
        supervisor = world.device.supervisor
        with pytest.raises(ControlError, match=words):
            await ask(command, **arguments)
        assert (await ask("status"))["running"] is True
        assert world.device.supervisor is supervisor, "it was not started a second time"

    controlled(run, scenario)


def test_a_device_without_power_does_nothing_until_it_has_it_again(run: Run) -> None:
    async def scenario(world: World, ask: Ask) -> None:
        await ask("power-off")
        for command in ("restart-nucleus", "kill-daemon", "start-ipc", "stop-ipc", "power-off", "kill-component"):
            with pytest.raises(ControlError, match="has no power") as caught:
                await ask(command, name="a")
            assert "power-on" in caught.value.remedy
        assert (await ask("status"))["running"] is False
        assert not (world.root / world.profile.socket_name).exists()
        await ask("power-on")
        assert (await ask("status"))["running"] is True

    controlled(run, scenario)
