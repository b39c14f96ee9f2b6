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
from collections.abc import Mapping
from typing import Any

from simulator.nucleus.errors import CloudOfflineError
from simulator.nucleus.ports import CloudMessages
from simulator.nucleus.profile import Profile
from simulator.nucleus.road import CarryOut, Road

NAMESPACE = "namespace-aws-gg-deployment"
OPEN_STATUSES = frozenset({"QUEUED", "IN_PROGRESS"})

logger = logging.getLogger(__name__)


class Jobs:
    """Started and stopped with the deployment daemon."""

    def __init__(self, cloud: CloudMessages, thing_name: str, profile: Profile, carry_out: CarryOut) -> None:
        """Nothing is subscribed yet."""
        self._cloud = cloud
        self._thing_name = thing_name
        self._topic = f"$aws/things/{thing_name}/jobs"
        self._profile = profile
        self._carry_out = carry_out
        self._current = ""
        self._answers: dict[str, asyncio.Future[None]] = {}
        subscriptions = {
            f"{self._topic}/{profile.notify_topic}": self._notified,
            f"{self._topic}/$next/{NAMESPACE}/get/accepted": self._described,
            f"{self._topic}/+/{NAMESPACE}/update/+": self._answered,
        }
        self._road = Road(cloud, subscriptions, self._ask_for_next, self._work, profile.describe_timeout_s)

    async def serve(self) -> None:
        """Hear of jobs and carry them out until cancelled."""
        await self._road.serve()

    def ask(self) -> None:
        """Have the next job asked for."""
        self._road.ask()

    def connection_lost(self) -> None:
        """No answer will come any more to what is under way."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(CloudOfflineError("the connection was lost"))

    async def _ask_for_next(self) -> None:
        request = {
            "jobId": "$next",
            "thingName": self._thing_name,
            "includeJobDocument": True,
            "clientToken": self._profile.job_client_token,
        }
        await self._cloud.publish(f"{self._topic}/$next/{NAMESPACE}/get", json.dumps(request).encode())

    def _notified(self, topic: str, payload: bytes) -> None:
        document = self._read(topic, payload)
        if document is None:
            return
        if isinstance(document.get("execution"), Mapping):
            self._consider(document["execution"])
        elif document.get("jobs"):  # the Java nucleus's topic only says that there is something
            self.ask()

    def _described(self, topic: str, payload: bytes) -> None:
        self._road.answered()
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
            self._road.put(job_id, document)

    async def _work(self, job_id: str, document: object) -> None:
        await self._report(job_id, "IN_PROGRESS")
        status = await self._carry_out(document)
        if not await self._report(job_id, status):
            logger.warning("the report of job %s (%s) was lost", job_id, status)
            if self._current == job_id:
                self._current = ""
            self.ask()

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
