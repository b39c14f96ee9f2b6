"""Deployments to a single thing, through its named shadow: the Java nucleus's other road beside IoT Jobs.

The failure it exists for: a deployment to one core device that waits for ever on a nucleus that would have taken it. As on
the real one (read, ShadowDeploymentListener): the whole shadow is asked for with every connection; the desired fleet
configuration is carried out once for each configuration ARN; what was reported with an end before a restart is not carried
out again; a report is made when a deployment begins and ends, and once more with the next connection if it was lost.

Lite has nothing of it (measured). Concurrency: the device's event loop.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from simulator.nucleus.errors import CloudOfflineError
from simulator.nucleus.jobs import CarryOut
from simulator.nucleus.ports import CloudMessages
from simulator.nucleus.profile import Profile

SHADOW_NAME = "AWSManagedGreengrassV2Deployment"

logger = logging.getLogger(__name__)


class ShadowDeployments:
    """Started and stopped with the deployment daemon."""

    def __init__(self, cloud: CloudMessages, thing_name: str, profile: Profile, carry_out: CarryOut) -> None:
        """Nothing is subscribed yet."""
        self._cloud = cloud
        self._topic = f"$aws/things/{thing_name}/shadow/name/{SHADOW_NAME}"
        self._profile = profile
        self._carry_out = carry_out
        self._waiting: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self._taken = ""
        self._canceled: set[str] = set()
        self._unreported: Mapping[str, Any] | None = None
        self._is_asked_for = asyncio.Event()
        self._is_answered = asyncio.Event()

    async def serve(self) -> None:
        """Subscribe, look at the shadow and carry out what it desires until cancelled."""
        undo = [
            await self._cloud.subscribe(f"{self._topic}/get/+", self._answered),
            await self._cloud.subscribe(f"{self._topic}/update/accepted", self._heard),
        ]
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
        """Have the shadow asked for, and a lost report made; while offline nothing is, the next connection does."""
        self._is_asked_for.set()

    async def _ask(self) -> None:
        """Ask whenever that is wanted, again and again until there is an answer: the first may precede its subscription."""
        while True:
            await self._is_asked_for.wait()
            self._is_asked_for.clear()
            self._is_answered.clear()
            try:
                if self._unreported is not None:
                    await self._report(self._unreported)
                await self._cloud.publish(f"{self._topic}/get", b"{}")
                async with asyncio.timeout(self._profile.describe_timeout_s):
                    await self._is_answered.wait()
            except CloudOfflineError:
                continue
            except TimeoutError:
                self.ask()

    def _answered(self, topic: str, payload: bytes) -> None:
        self._is_answered.set()
        if topic.endswith("/accepted"):
            self._heard(topic, payload)

    def _heard(self, _topic: str, payload: bytes) -> None:
        try:
            state = json.loads(payload)["state"]
            desired, reported = state.get("desired") or {}, state.get("reported") or {}
            document = json.loads(desired["fleetConfig"]) if "fleetConfig" in desired else None
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.exception("a shadow could not be read")
            return
        arn = document.get("configurationArn") if isinstance(document, Mapping) else None
        if desired.get("desiredStatus") == "CANCELED":
            self._canceled.add(arn or self._taken)
            return
        if not isinstance(arn, str) or arn == self._taken:
            return
        is_first, self._taken = not self._taken, arn
        is_done = reported.get("fleetConfigurationArnForStatus") == arn and reported.get("status") != "IN_PROGRESS"
        if not (is_first and is_done):
            self._waiting.put_nowait((arn, document))

    async def _work(self, arn: str, document: object) -> None:
        if arn in self._canceled:
            logger.info("the deployment of %s was canceled before it began", arn)
            return
        await self._say(arn, "IN_PROGRESS")
        await self._say(arn, await self._carry_out(document))

    async def _say(self, arn: str, status: str) -> None:
        reported = {"fleetConfigurationArnForStatus": arn, "status": status, "ggcVersion": self._profile.version}
        self._unreported = {"state": {"reported": reported}}
        try:
            await self._report(self._unreported)
        except CloudOfflineError:
            logger.warning("the report of %s (%s) waits for the next connection", arn, status)

    async def _report(self, message: Mapping[str, Any]) -> None:
        await self._cloud.publish(f"{self._topic}/update", json.dumps(message).encode())
        self._unreported = None
