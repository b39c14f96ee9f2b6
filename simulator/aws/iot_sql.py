"""The SQL of IoT topic rules, as a pure function of one message.

The failure this exists for: a rule that is stored and silently does nothing, or does something else than its text says.
So the subset is closed, and what lies outside of it is refused by name when the rule is made, never at the first message.

In the subset: ``SELECT`` of ``*``, paths (``a.b[0]``), literals and functions, each with ``AS``; ``FROM`` one topic
filter, optional for rules reached by Basic Ingest alone; ``WHERE`` with comparisons, ``AND``, ``OR`` and ``NOT``.
Source: AWS IoT SQL reference, version 2016-03-23. A path that the payload does not have is *Undefined*: such a column is
left out, and a comparison with it is false.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.aws.json_types import Json
from simulator.errors import SimulatorError


class SqlError(SimulatorError):
    """The text is no rule of IoT SQL at all."""


class SqlNotRealError(SqlError):
    """IoT SQL that AWS understands and this subset does not; the sentence names the piece."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as a rule sees it.

    Attributes:
        topic: without the Basic Ingest prefix.
        payload: as published.
        received_at_ms: when the rules engine got it, milliseconds since the epoch.
    """

    topic: str
    payload: bytes
    received_at_ms: int


class _Undefined:
    """What a path that is not there evaluates to; never equal to anything, JSON's null included."""


UNDEFINED = _Undefined()
Expression = Callable[[Incoming, Any], Any]
"""From the message and its decoded payload to a JSON value or :data:`UNDEFINED`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One selected expression under its path of names; ``None`` for ``*``."""

    names: tuple[str, ...]
    value: Expression | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A rule, made by :func:`simulator.aws.iot_sql_parser.parse`.

    Attributes:
        columns: what is selected, in order.
        topic_filter: the ``FROM`` clause; ``None`` for a rule that only Basic Ingest reaches.
        condition: the ``WHERE`` clause.
    """

    columns: tuple[Column, ...]
    topic_filter: str | None
    condition: Expression | None

    def evaluate(self, message: Incoming) -> bytes | None:
        """What the rule's actions get; ``None`` where the condition does not hold.

        ``SELECT *`` alone hands on the payload's bytes as they came, JSON or not.
        """
        document = decoded(message.payload)
        if self.condition is not None and self.condition(message, document) is not True:
            return None
        if len(self.columns) == 1 and self.columns[0].value is None:
            return message.payload
        result: dict[str, Any] = {}
        for column in self.columns:
            _select(column, message, document, result)
        return json.dumps(result, separators=(",", ":"), ensure_ascii=False).encode()


def decoded(payload: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The payload as JSON; :data:`UNDEFINED` where it is none."""
    try:
        return json.loads(payload)
    except ValueError:
        return UNDEFINED


def _select(column: Column, message: Incoming, document: Json, result: dict[str, Any]) -> None:
    if column.value is None:
        if isinstance(document, Mapping):
            result.update(document)
        return
    value = column.value(message, document)
    if value is UNDEFINED:
        return
    *above, last = column.names
    for name in above:
        inner = result.setdefault(name, {})
        result = inner if isinstance(inner, dict) else {}
    result[last] = value


# The functions. Each gets the message and its evaluated arguments.


def _topic(message: Incoming, level: Json = None) -> Json:
    if level is None:
        return message.topic
    levels = message.topic.split("/")
    return levels[level - 1] if isinstance(level, int) and 1 <= level <= len(levels) else UNDEFINED


def _encode(message: Incoming, value: Json, scheme: Json) -> Json:
    del message
    if scheme != "base64" or value is UNDEFINED:
        return UNDEFINED
    raw = value if isinstance(value, bytes) else as_text(value).encode()
    return base64.b64encode(raw).decode()


def _concat(message: Incoming, *values: Json) -> Json:
    del message
    return UNDEFINED if UNDEFINED in values else "".join(map(as_text, values))


FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Any]]] = {
    # name: fewest arguments, most arguments, what it does
    "topic": (0, 1, _topic),
    "timestamp": (0, 0, lambda message: message.received_at_ms),
    "encode": (2, 2, _encode),
    "concat": (1, 16, _concat),
    "lower": (1, 1, lambda _, text: text.lower() if isinstance(text, str) else UNDEFINED),
    "upper": (1, 1, lambda _, text: text.upper() if isinstance(text, str) else UNDEFINED),
    "startswith": (2, 2, lambda _, text, start: as_text(text).startswith(as_text(start))),
    "endswith": (2, 2, lambda _, text, end: as_text(text).endswith(as_text(end))),
    "isundefined": (1, 1, lambda _, value: value is UNDEFINED),
    "isnull": (1, 1, lambda _, value: value is None),
}
"""``clientid()`` and ``principal()`` are not among them: a broker does not tell a subscriber who published."""


@dataclass(frozen=True, slots=True)
class Path:
    """``a.b[0]`` into the decoded payload."""

    steps: tuple[str | int, ...]

    def __call__(self, message: Incoming, document: Json) -> Json:
        """What is there, or :data:`UNDEFINED`."""
        del message
        value = document
        for step in self.steps:
            value = _member(value, step)
        return value


def _member(value: Json, step: str | int) -> Json:
    if isinstance(step, str):
        return value.get(step, UNDEFINED) if isinstance(value, Mapping) else UNDEFINED
    return value[step] if isinstance(value, list) and -len(value) <= step < len(value) else UNDEFINED


def as_text(value: Json) -> str:
    """A value within a text, as ``concat`` and substitution templates write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "Undefined" if value is UNDEFINED else json.dumps(value, separators=(",", ":"))
