"""Deployments to a single thing, through its named shadow: the Java nucleus's other road beside IoT Jobs.

The failure it exists for: a deployment to one core device that waits for ever on a nucleus that would have taken it. As on
the real one (read, ShadowDeploymentListener): the whole shadow is asked for with every connection; the desired fleet
configuration is carried out once for each configuration ARN; what was reported with an end before a restart is not carried
out again; a report is made when a deployment begins and ends, and once more with the next connection if it was lost.

Lite has nothing of it (measured). Concurrency: the device's event loop.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from simulator.nucleus.errors import CloudOfflineError
from simulator.nucleus.ports import CloudMessages
from simulator.nucleus.profile import Profile
from simulator.nucleus.road import CarryOut, Road

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
        self._taken = ""
        self._canceled: set[str] = set()
        self._unreported: Mapping[str, Any] | None = None
        subscriptions = {f"{self._topic}/get/+": self._answered, f"{self._topic}/update/accepted": self._heard}
        self._road = Road(cloud, subscriptions, self._ask_for_shadow, self._work, profile.describe_timeout_s)

    async def serve(self) -> None:
        """Hear what the shadow desires and carry it out until cancelled."""
        await self._road.serve()

    def ask(self) -> None:
        """Have the shadow asked for, and a lost report made."""
        self._road.ask()

    async def _ask_for_shadow(self) -> None:
        if self._unreported is not None:
            await self._report(self._unreported)
        await self._cloud.publish(f"{self._topic}/get", b"{}")

    def _answered(self, topic: str, payload: bytes) -> None:
        self._road.answered()
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
            self._road.put(arn, document)

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
