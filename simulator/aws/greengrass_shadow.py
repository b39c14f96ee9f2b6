"""The named shadow through which AWS deploys to a single thing: ``AWSManagedGreengrassV2Deployment``.

Only Java nuclei listen to it; Greengrass Lite 2.6.0 has no shadow listener and never gets such a deployment (measured).
The shadow itself is kept by moto; this carries it over MQTT for that one shadow name: ``get``, ``update`` and ``delta``.
Other shadows are reached over HTTP only.

Source-derived (Java nucleus's ShadowDeploymentListener), not measured against AWS.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from moto.core.exceptions import ServiceException
from moto.iotdata.models import iotdata_backends
from werkzeug.exceptions import HTTPException

from simulator.aws.bus import MessageBus
from simulator.aws.cloud import Cloud
from simulator.mqtt import MqttError

log = logging.getLogger(__name__)

SHADOW_NAME = "AWSManagedGreengrassV2Deployment"

Reported = Callable[[str, str, str], None]
"""Told the thing, the configuration ARN and the status that the thing reported."""


class DeploymentShadow:
    """Desired by the cloud, reported by the device."""

    def __init__(self, cloud: Cloud, bus: MessageBus) -> None:
        """Subscribes to the devices' requests."""
        self._cloud, self._bus = cloud, bus
        self._listeners: list[Reported] = []
        bus.subscribe(f"$aws/things/+/shadow/name/{SHADOW_NAME}/get", self._answer_get)
        bus.subscribe(f"$aws/things/+/shadow/name/{SHADOW_NAME}/update", self._take_update)

    def on_reported(self, listener: Reported) -> None:
        """Tell ``listener`` what devices report."""
        self._listeners.append(listener)

    def desire(self, thing_name: str, document: str) -> None:
        """Give the thing a deployment."""
        self._update(thing_name, {"desired": {"fleetConfig": document, "desiredStatus": "SUCCEEDED"}})

    def cancel(self, thing_name: str) -> None:
        """Take a deployment back, if the thing has not begun it."""
        self._update(thing_name, {"desired": {"desiredStatus": "CANCELED"}})

    def _update(self, thing_name: str, state: Mapping[str, Any]) -> None:
        shadow = self._backend().update_thing_shadow(thing_name, json.dumps({"state": state}), SHADOW_NAME)
        self._send(thing_name, "update/accepted", {"state": state, "version": shadow.version})
        delta = shadow.to_dict().get("state", {}).get("delta")
        if delta:
            self._send(thing_name, "update/delta", {"state": delta, "version": shadow.version})

    def _answer_get(self, topic: str, _payload: bytes) -> None:
        thing_name = topic.split("/")[2]
        try:
            shadow = self._backend().get_thing_shadow(thing_name, SHADOW_NAME)
        except (ServiceException, HTTPException):
            self._send(
                thing_name, "get/rejected", {"code": 404, "message": f"No shadow exists with name: {SHADOW_NAME}"}
            )
            return
        self._send(thing_name, "get/accepted", shadow.to_dict())

    def _take_update(self, topic: str, payload: bytes) -> None:
        thing_name = topic.split("/")[2]
        try:
            state = json.loads(payload)["state"]
            self._update(thing_name, state)
        except (ValueError, KeyError, TypeError, ServiceException, HTTPException) as error:
            self._send(thing_name, "update/rejected", {"code": 400, "message": f"{type(error).__name__}: {error}"})
            return
        reported = state.get("reported") if isinstance(state, dict) else None
        if isinstance(reported, dict) and "status" in reported:
            for listener in self._listeners:
                listener(thing_name, str(reported.get("fleetConfigurationArnForStatus", "")), str(reported["status"]))

    def _send(self, thing_name: str, verb: str, body: Mapping[str, Any]) -> None:
        try:
            topic = f"$aws/things/{thing_name}/shadow/name/{SHADOW_NAME}/{verb}"
            self._bus.publish(topic, json.dumps(body).encode())
        except MqttError as error:
            log.warning("shadow %s of %s not sent: %s", verb, thing_name, error)

    def _backend(self) -> Any:  # noqa: ANN401 - moto has no types
        return iotdata_backends[self._cloud.account_id][self._cloud.region]
