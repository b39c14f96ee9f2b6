"""Fixtures of the nucleus's tests; what they are made of is in ``world.py``."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from simulator.nucleus.profile import Profile
from tests.simulator.nucleus.world import FAST, World, started


@pytest.fixture
def root() -> Iterator[Path]:
    """Short, since Unix sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="gg-") as folder:
        yield Path(folder)


Run = Callable[[Callable[[World], Awaitable[None]]], None]


@pytest.fixture
def run(root: Path) -> Run:
    """Run a scenario against a started device and stop it afterwards."""

    def run(scenario: Callable[[World], Awaitable[None]], profile: Profile = FAST) -> None:
        async def body() -> None:
            async with started(World(root, profile)) as world:
                await scenario(world)

        asyncio.run(body())

    return run
