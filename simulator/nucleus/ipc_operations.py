"""What each IPC operation means: a request's document in, a response's document or a typed refusal out.

It is not the wire (``ipc_server.py``). An operation that the profile does not list is refused as that nucleus refuses
it; an operation that needs a policy is checked against the caller's own accessControl before anything happens.

Concurrency: coroutines on the device's event loop.
"""

import base64
import binascii
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.nucleus.access import GUARDED, is_allowed
from simulator.nucleus.errors import CloudOfflineError
from simulator.nucleus.profile import Profile
from simulator.nucleus.services import Services
from simulator.nucleus.topic_rules import publish_problem, subscribe_problem

NAMESPACE = "aws.greengrass#"
REPORTABLE_STATES = frozenset({"RUNNING", "ERRORED"})

NESTING_LEVELS_MAX = 64
"""Of a configuration: more than any has, and less than what a recursion over it bears."""

logger = logging.getLogger(__name__)


class OperationError(Exception):
    """A refusal that goes back to the caller as an IPC error shape.

    Attributes:
        shape: such as ``UnauthorizedError``.
    """

    def __init__(self, shape: str, message: str) -> None:
        """``message`` reaches the caller where the nucleus sends one."""
        super().__init__(message)
        self.shape = shape


@dataclass(slots=True)
class Call:
    """One request on its stream.

    Attributes:
        operation: without namespace.
        component: who asks, as its token proved.
        request: the decoded payload.
        emit: sends an event (shape name, document) on this stream; kept back until the response is out.
        on_end: append what must be undone when the stream or the connection ends.
    """

    operation: str
    component: str
    request: Mapping[str, Any]
    emit: Callable[[str, Mapping[str, Any]], None]
    on_end: list[Callable[[], None]] = field(default_factory=list)

    def text(self, name: str) -> str:
        """A required, non-empty string of the request.

        Raises:
            OperationError: InvalidArgumentsError.
        """
        value = self.request.get(name)
        if not isinstance(value, str) or not value:
            raise OperationError("InvalidArgumentsError", f"{name} must be a non-empty string")
        return value

    def component_or_own(self) -> str:
        """``componentName``; absent meaning the caller.

        Raises:
            OperationError: InvalidArgumentsError.
        """
        return self.text("componentName") if self.request.get("componentName") else self.component

    def key_path(self) -> tuple[str, ...]:
        """``keyPath``: a list of strings, absent meaning the root.

        Raises:
            OperationError: InvalidArgumentsError.
        """
        value = self.request.get("keyPath") or []
        if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
            raise OperationError("InvalidArgumentsError", "keyPath must be a list of strings")
        return tuple(value)


Handler = Callable[[Call], Awaitable[Mapping[str, Any]]]


class Operations:
    """The table of operations of one nucleus."""

    def __init__(self, profile: Profile, services: Services) -> None:
        """``services`` is shared with the device; nothing is contacted."""
        self._profile = profile
        self._services = services
        self._handlers: dict[str, Handler] = {
            "PublishToIoTCore": self._publish_to_iot_core,
            "SubscribeToIoTCore": self._subscribe_to_iot_core,
            "PublishToTopic": self._publish_to_topic,
            "SubscribeToTopic": self._subscribe_to_topic,
            "GetConfiguration": self._get_configuration,
            "SubscribeToConfigurationUpdate": self._subscribe_to_configuration_update,
            "UpdateConfiguration": self._update_configuration,
            "UpdateState": self._update_state,
            "RestartComponent": self._restart_component,
            "StopComponent": self._stop_component,
            "ValidateAuthorizationToken": self._validate_authorization_token,
            "ListComponents": self._list_components,
            "GetComponentDetails": self._get_component_details,
        }

    async def answer(self, call: Call) -> Mapping[str, Any]:
        """Run one operation.

        Raises:
            OperationError: with the shape to send back.
        """
        if call.operation not in self._profile.operations:
            raise OperationError("ServiceError", self._not_served(call.operation))
        return await self._handlers[call.operation](call)

    def _not_served(self, operation: str) -> str:
        nucleus = f"{self._profile.name} nucleus"
        if operation in self._profile.unsimulated_operations:
            return f"{operation} is not simulated: the real {nucleus} answers it, this one does not"
        return f"the {nucleus} does not serve {operation}"

    def _authorize(self, call: Call, resource: str) -> None:
        assert call.operation in GUARDED
        access_control = _access_control(self._services.configurations.of(call.component).value())
        if not is_allowed(access_control, call.operation, resource):
            raise OperationError(
                "UnauthorizedError", f"{call.component} may not {call.operation} on {resource}: see its accessControl"
            )

    def _bear(self, topic_problem: str) -> None:
        if topic_problem:
            raise OperationError(self._profile.bad_topic_error, f"AWS IoT Core would hang up: {topic_problem}")

    async def _publish_to_iot_core(self, call: Call) -> Mapping[str, Any]:
        topic = call.text("topicName")
        self._authorize(call, topic)
        self._bear(publish_problem(topic))
        payload = _base64(call.request.get("payload") or "")
        if len(payload) > self._profile.publish_bytes_max:
            raise OperationError("ServiceError", f"{len(payload)} bytes; {self._profile.publish_bytes_max} fit")
        try:
            await self._services.cloud.publish(topic, payload, _qos(call))
        except CloudOfflineError as error:
            raise OperationError("ServiceError", str(error)) from error
        return {}

    async def _subscribe_to_iot_core(self, call: Call) -> Mapping[str, Any]:
        topic_filter = call.text("topicName")
        self._authorize(call, topic_filter)
        self._bear(subscribe_problem(topic_filter))
        _qos(call)
        cancel = await self._services.cloud.subscribe(
            topic_filter,
            lambda topic, payload: call.emit(
                "IoTCoreMessage", {"message": {"topicName": topic, "payload": base64.b64encode(payload).decode()}}
            ),
        )
        call.on_end.append(cancel)
        return {}

    async def _publish_to_topic(self, call: Call) -> Mapping[str, Any]:
        topic = call.text("topic")
        self._authorize(call, topic)
        message = call.request.get("publishMessage")
        kinds = [kind for kind in ("jsonMessage", "binaryMessage") if isinstance(message, dict) and message.get(kind)]
        if len(kinds) != 1:
            raise OperationError("InvalidArgumentsError", "publishMessage must be one of jsonMessage, binaryMessage")
        assert isinstance(message, dict)
        content = {"message": message[kinds[0]].get("message"), "context": {"topic": topic}}
        self._services.topics.publish(call.component, topic, {kinds[0]: content})
        return {}

    async def _subscribe_to_topic(self, call: Call) -> Mapping[str, Any]:
        topic_filter = call.text("topic")
        self._authorize(call, topic_filter)
        others_only = (
            self._profile.honours_receive_mode and call.request.get("receiveMode") == "RECEIVE_MESSAGES_FROM_OTHERS"
        )

        def deliver(sender: str, topic: str, message: Mapping[str, Any]) -> None:  # noqa: ARG001 - in the message
            if not (others_only and sender == call.component):
                call.emit("SubscriptionResponseMessage", message)

        call.on_end.append(self._services.topics.subscribe(topic_filter, deliver))
        return {"topicName": topic_filter}

    async def _get_configuration(self, call: Call) -> Mapping[str, Any]:
        component, key_path = call.component_or_own(), call.key_path()
        configuration = self._services.configurations.of(component)
        try:
            value = configuration.value(key_path)
        except KeyError as error:
            raise OperationError("ResourceNotFoundError", f"{component} has nothing at {list(key_path)}") from error
        if not configuration.root:
            raise OperationError("ResourceNotFoundError", f"{component} has no configuration")
        return {"componentName": component, "value": value if isinstance(value, dict) else {key_path[-1]: value}}

    async def _subscribe_to_configuration_update(self, call: Call) -> Mapping[str, Any]:
        component = call.component_or_own()

        def notify(path: tuple[str, ...]) -> None:
            event = {"componentName": component, "keyPath": list(path)}
            call.emit("ConfigurationUpdateEvents", {"configurationUpdateEvent": event})

        call.on_end.append(self._services.configurations.watch(component, call.key_path(), notify))
        return {}

    async def _update_configuration(self, call: Call) -> Mapping[str, Any]:
        key_path = call.key_path()
        value, seconds = call.request.get("valueToMerge"), call.request.get("timestamp")
        if value is None:
            raise OperationError("InvalidArgumentsError", "valueToMerge is required")
        if seconds is None and self._profile.requires_timestamp:
            raise OperationError("InvalidArgumentsError", "timestamp is required")
        if _is_deeper(value, NESTING_LEVELS_MAX - len(key_path)):
            raise OperationError("InvalidArgumentsError", f"more than {NESTING_LEVELS_MAX} levels within one another")
        if not key_path and not isinstance(value, dict):
            raise OperationError("InvalidArgumentsError", "without keyPath, valueToMerge must be an object")
        if key_path[:1] == ("accessControl",) or (not key_path and "accessControl" in value):
            raise OperationError("InvalidArgumentsError", "a component may not change its own accessControl")
        at_ms = _newest_ms(seconds)
        self._services.configurations.merge(call.component, key_path, value, at_ms)
        return {}

    async def _update_state(self, call: Call) -> Mapping[str, Any]:
        state = call.text("state")
        if state not in REPORTABLE_STATES:
            raise OperationError("InvalidArgumentsError", f"state is one of {sorted(REPORTABLE_STATES)}, not {state}")
        self._services.components.report_state(call.component, state)
        return {}

    async def _restart_component(self, call: Call) -> Mapping[str, Any]:
        await self._act(call, self._services.components.restart)
        return {"restartStatus": "SUCCEEDED"}

    async def _stop_component(self, call: Call) -> Mapping[str, Any]:
        await self._act(call, self._services.components.stop_component)
        return {"stopStatus": "SUCCEEDED"}

    async def _act(self, call: Call, action: Callable[[str], Awaitable[None]]) -> None:
        name = call.text("componentName")
        self._authorize(call, name)
        try:
            await action(name)
        except KeyError as error:
            shape = "ComponentNotFoundError" if call.operation == "RestartComponent" else "ResourceNotFoundError"
            raise OperationError(shape, f"{name} is not installed") from error

    async def _validate_authorization_token(self, call: Call) -> Mapping[str, Any]:
        if self._services.tokens.component_of(call.text("token")) is None:
            raise OperationError("InvalidTokenError", "this nucleus gave out no such token")
        return {"isValid": True}

    async def _list_components(self, call: Call) -> Mapping[str, Any]:
        self._authorize(call, "*")
        return {"components": [self._details(view.name) for view in self._services.components.views()]}

    async def _get_component_details(self, call: Call) -> Mapping[str, Any]:
        name = call.text("componentName")
        self._authorize(call, name)
        return {"componentDetails": self._details(name)}

    def _details(self, name: str) -> dict[str, Any]:
        for view in self._services.components.views():
            if view.name == name:
                configuration = self._services.configurations.of(name).value()
                return {
                    "componentName": name,
                    "version": view.version,
                    "state": view.state,
                    "configuration": configuration,
                }
        raise OperationError("ResourceNotFoundError", f"{name} is not installed")


def _access_control(configuration: object) -> object:
    return configuration.get("accessControl") if isinstance(configuration, dict) else None


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "=", validate=True)
    except (binascii.Error, ValueError) as error:
        raise OperationError("InvalidArgumentsError", "payload must be base64") from error


def _qos(call: Call) -> int:
    qos = str(call.request.get("qos") or "0")
    if qos not in {"0", "1"}:
        raise OperationError("InvalidArgumentsError", f"qos is 0 or 1, not {qos}")
    return int(qos)


def _is_deeper(value: object, levels: int) -> bool:
    """Whether objects and lists lie in one another more often than that."""
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels <= 0 or any(_is_deeper(child, levels - 1) for child in children)


def _newest_ms(seconds: object) -> int:
    """Epoch seconds as ms; without a timestamp the write is newer than everything."""
    if seconds is None:
        return 2**53
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise OperationError("InvalidArgumentsError", "timestamp must be a number of seconds")
    if not math.isfinite(seconds):
        raise OperationError("InvalidArgumentsError", "timestamp must be finite")
    return int(seconds * 1000)
