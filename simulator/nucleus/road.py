"""A road by which deployments reach a device: asks what is to be done until it is answered, and has it done one by one.

The failure it exists for: a device that asked once, before its subscription held, and waits for an answer that nobody owes
it any more. So every question is repeated until there is an answer, or no connection: the next one asks anew.

What is asked, heard and reported is each road's own (``jobs.py``, ``shadow_deployments.py``). Concurrency: the device's
event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from simulator.nucleus.errors import CloudOfflineError
from simulator.nucleus.ports import CloudMessages, Deliver

logger = logging.getLogger(__name__)

CarryOut = Callable[[object], Awaitable[str]]
"""A deployment's document in, its final status out, in the words of a job."""


class Road:
    """Nothing is subscribed before :meth:`serve`."""

    def __init__(
        self,
        cloud: CloudMessages,
        subscriptions: Mapping[str, Deliver],
        question: Callable[[], Awaitable[None]],
        work: Callable[[str, object], Awaitable[None]],
        answer_timeout_s: float,
    ) -> None:
        """``question`` publishes; ``work`` carries out what was put, under the name that it was put with."""
        self._cloud = cloud
        self._subscriptions = subscriptions
        self._question = question
        self._work = work
        self._answer_timeout_s = answer_timeout_s
        self._waiting: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self._wants_to_ask = asyncio.Event()
        self._is_answered = asyncio.Event()

    async def serve(self) -> None:
        """Subscribe, ask, and carry out what is put, until cancelled."""
        undo = [await self._cloud.subscribe(topic, deliver) for topic, deliver in self._subscriptions.items()]
        asking = asyncio.get_running_loop().create_task(self._ask())
        self.ask()
        try:
            while True:
                await self._work(*await self._waiting.get())
        finally:
            asking.cancel()
            for cancel in undo:
                cancel()

    def ask(self) -> None:
        """Have it asked what is to be done; while offline nothing is asked, the next connection does."""
        self._wants_to_ask.set()

    def answered(self) -> None:
        """The question has its answer."""
        self._is_answered.set()

    def put(self, name: str, document: object) -> None:
        """Have it carried out, after all that was put before."""
        self._waiting.put_nowait((name, document))

    async def _ask(self) -> None:
        while True:
            await self._wants_to_ask.wait()
            self._wants_to_ask.clear()  # before the question: what is announced until the answer is asked for anew
            self._is_answered.clear()
            try:
                await self._question()
                async with asyncio.timeout(self._answer_timeout_s):
                    await self._is_answered.wait()
            except CloudOfflineError:
                continue
            except TimeoutError:
                logger.warning("nobody answers what is to be done; it is asked again")
                self.ask()
