"""Deployments as IoT Jobs over MQTT: hears of them, has them carried out one at a time, reports.

The failure it exists for: a device that reports into the void and is believed to be still at work. As on Lite, a report
that nobody acknowledged is not repeated: the job is fetched again on the next connection, and carried out again, which
for a deployment that has succeeded means there is nothing to do.

Topics and payloads are those measured on Lite: ``…/jobs/$next/namespace-aws-gg-deployment/get`` and ``…/<jobId>/…/update``
beneath ``$aws/things/<thing>/jobs``. Concurrency: the device's event loop.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from simulator.nucleus.errors import CloudOfflineError
from simulator.nucleus.ports import CloudMessages
from simulator.nucleus.profile import Profile

NAMESPACE = "namespace-aws-gg-deployment"
OPEN_STATUSES = frozenset({"QUEUED", "IN_PROGRESS"})

logger = logging.getLogger(__name__)

CarryOut = Callable[[object], Awaitable[str]]
"""A job document in, the job's final status out."""


class Jobs:
    """Started and stopped with the deployment daemon."""

    def __init__(self, cloud: CloudMessages, thing_name: str, profile: Profile, carry_out: CarryOut) -> None:
        """Nothing is subscribed yet."""
        self._cloud = cloud
        self._thing_name = thing_name
        self._topic = f"$aws/things/{thing_name}/jobs"
        self._profile = profile
        self._carry_out = carry_out
        self._waiting: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self._current = ""
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._wants_to_ask = asyncio.Event()
        self._is_answered = asyncio.Event()

    async def serve(self) -> None:
        """Subscribe, ask for the next job and carry out jobs until cancelled."""
        undo = [
            await self._cloud.subscribe(f"{self._topic}/{self._profile.notify_topic}", self._notified),
            await self._cloud.subscribe(f"{self._topic}/$next/{NAMESPACE}/get/accepted", self._described),
            await self._cloud.subscribe(f"{self._topic}/+/{NAMESPACE}/update/+", self._answered),
        ]
        asking = asyncio.get_running_loop().create_task(self._ask())
        self.ask_for_next()
        try:
            while True:
                await self._work(*await self._waiting.get())
        finally:
            asking.cancel()
            for cancel in undo:
                cancel()

    def ask_for_next(self) -> None:
        """Have it asked what is to be done; while offline nothing is asked, the next connection does."""
        self._wants_to_ask.set()

    def connection_lost(self) -> None:
        """No answer will come any more to what is under way."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(CloudOfflineError("the connection was lost"))

    async def _ask(self) -> None:
        """Ask for the next job whenever that is wanted, again and again until there is an answer."""
        request = {
            "jobId": "$next",
            "thingName": self._thing_name,
            "includeJobDocument": True,
            "clientToken": self._profile.job_client_token,
        }
        while True:
            await self._wants_to_ask.wait()
            self._wants_to_ask.clear()  # before the question: what is announced until the answer is asked for anew
            self._is_answered.clear()
            try:
                await self._cloud.publish(f"{self._topic}/$next/{NAMESPACE}/get", json.dumps(request).encode())
                async with asyncio.timeout(self._profile.describe_timeout_s):
                    await self._is_answered.wait()
            except CloudOfflineError:
                continue
            except TimeoutError:
                logger.warning("nobody answers what is to be done; it is asked again")
                self.ask_for_next()

    def _notified(self, topic: str, payload: bytes) -> None:
        document = self._read(topic, payload)
        if document is None:
            return
        if isinstance(document.get("execution"), Mapping):
            self._consider(document["execution"])
        elif document.get("jobs"):  # the Java nucleus's topic only says that there is something
            self.ask_for_next()

    def _described(self, topic: str, payload: bytes) -> None:
        self._is_answered.set()
        document = self._read(topic, payload)
        if document is not None and isinstance(document.get("execution"), Mapping):
            self._consider(document["execution"])

    def _read(self, topic: str, payload: bytes) -> Mapping[str, Any] | None:
        limit = self._profile.job_message_bytes_max
        if limit is not None and len(payload) > limit:
            logger.error("dropped %d bytes on %s: at most %d fit", len(payload), topic, limit)
            return None
        try:
            document = json.loads(payload)
        except ValueError:
            logger.exception("what came on %s is not JSON", topic)
            return None
        return document if isinstance(document, Mapping) else None

    def _consider(self, execution: Mapping[str, Any]) -> None:
        job_id, document = execution.get("jobId"), execution.get("jobDocument")
        if not isinstance(job_id, str) or document is None or execution.get("status") not in OPEN_STATUSES:
            return
        if job_id != self._current:
            self._current = job_id
            self._waiting.put_nowait((job_id, document))

    async def _work(self, job_id: str, document: object) -> None:
        await self._report(job_id, "IN_PROGRESS")
        status = await self._carry_out(document)
        if not await self._report(job_id, status):
            logger.warning("the report of job %s (%s) was lost", job_id, status)
            if self._current == job_id:
                self._current = ""
            self.ask_for_next()

    async def _report(self, job_id: str, status: str) -> bool:
        """Whether the cloud has answered, be it with a refusal."""
        answer = self._answers[job_id] = asyncio.get_running_loop().create_future()
        request = {"status": status, "clientToken": self._profile.job_client_token}
        try:
            topic = f"{self._topic}/{job_id}/{NAMESPACE}/update"
            await self._cloud.publish(topic, json.dumps(request).encode())
            async with asyncio.timeout(self._profile.reply_timeout_s):  # wait_for can swallow a cancellation on 3.11
                await answer
        except (CloudOfflineError, TimeoutError):
            return False
        finally:
            del self._answers[job_id]
        return True

    def _answered(self, topic: str, payload: bytes) -> None:
        job_id, verdict = topic.removeprefix(f"{self._topic}/").split("/")[0], topic.rpartition("/")[2]
        answer = self._answers.get(job_id)
        if answer is not None and not answer.done():
            answer.set_result(None)
            if verdict == "rejected":
                logger.warning("job %s was refused an update: %s", job_id, payload.decode(errors="replace"))
