"""Core devices in this process: one event loop in a thread of its own, driven from ordinary code.

The failure it exists for: tests and demonstrations written twice, once with ``await`` and once without.

Thread-safe. The devices themselves belong to the loop; reach them through :meth:`NucleusHost.run`.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from simulator.nucleus.core_device import CoreDevice

Answer = TypeVar("Answer")

TIMEOUT_S = 120.0


class NucleusHost:
    """Runs devices until it is closed; a context manager."""

    def __init__(self) -> None:
        """The loop turns at once."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nucleus-host", daemon=True)
        self._devices: list[CoreDevice] = []
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Answer], timeout_s: float = TIMEOUT_S) -> Answer:
        """Run a coroutine on the loop and wait for it.

        Raises:
            TimeoutError: it is not done within the time; it is then cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:  # noqa: ANN401 - passed on
        """Call a function on the loop and wait for it."""

        async def work() -> Answer:
            return function(*arguments)

        return self.run(work())

    def start(self, device: CoreDevice) -> CoreDevice:
        """Start a device; it is stopped with the host."""
        self.run(device.start())
        self._devices.append(device)
        return device

    def close(self) -> None:
        """Stop every device that still runs, then the loop."""
        for device in reversed(self._devices):
            if device.running:
                self.run(device.stop())
        self._devices.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
