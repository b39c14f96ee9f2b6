"""JSON documents in and out of frozen values, with errors that name the field.

The failure this exists for: an old reader that drops, or chokes on, what a newer writer added. So each document names
its schema and major version (``"schema": "edgewright.heartbeat/1"``), and each value keeps the fields it does not know
in ``extra`` and writes them back. The law, tested for every contract::

    decode(encode(value)) == value        encode(decode(document)) == document

It is not a validator of meaning: that a version is newer, or a digest true, is decided elsewhere.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar

from edge_component.contracts.errors import MalformedError, TooLargeError, UnsupportedVersionError

Document = Mapping[str, Any]
Value = TypeVar("Value")

NOTHING: Mapping[str, Any] = MappingProxyType({})
VERSION_PATTERN = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$")
DIGEST_PATTERN = re.compile(r"^[0-9a-f]{64}$")


class Fields:
    """One JSON object being read; each accessor takes a field out, checks it, and names it when it is wrong.

    What nobody asked for stays and is returned by :meth:`rest`. Not thread-safe; lives for one decode.
    """

    def __init__(self, document: object, where: str = "") -> None:
        """Wrap a decoded JSON value; ``where`` is the dotted path of the object itself."""
        if not isinstance(document, Mapping):
            raise MalformedError(f"must be an object, not {_kind(document)}", where)
        self._left: dict[str, Any] = dict(document)
        self._where = where

    def path(self, name: str) -> str:
        """The dotted path of a field of this object."""
        return f"{self._where}.{name}" if self._where else name

    def schema(self, kind: str, version: int) -> None:
        """Take the ``schema`` field and check that it is ``edgewright.<kind>/<version>``."""
        found = self.text("schema")
        if found != schema_name(kind, version):
            raise UnsupportedVersionError(
                f"is {found!r}; this reader knows {schema_name(kind, version)!r}", self.path("schema")
            )

    def text(self, name: str, *, pattern: re.Pattern[str] | None = None) -> str:
        """A string; with ``pattern``, one that matches it."""
        value = self._take(name)
        if not isinstance(value, str):
            raise MalformedError(f"must be a string, not {_kind(value)}", self.path(name))
        if pattern is not None and not pattern.match(value):
            raise MalformedError(f"{value!r} does not match {pattern.pattern}", self.path(name))
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """A string out of a closed set."""
        value = self.text(name)
        if value not in allowed:
            raise MalformedError(f"{value!r} is none of {', '.join(allowed)}", self.path(name))
        return value

    def integer(self, name: str, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
        """A whole number within inclusive bounds. JSON's ``true`` is not a number."""
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise MalformedError(f"must be a whole number, not {_kind(value)}", self.path(name))
        if not minimum <= value <= maximum:
            raise MalformedError(f"{value} is not within {minimum} and {maximum}", self.path(name))
        return value

    def number(self, name: str) -> float:
        """A finite number; whole numbers are read as floats."""
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MalformedError(f"must be a number, not {_kind(value)}", self.path(name))
        return float(value)

    def boolean(self, name: str) -> bool:
        """``true`` or ``false``."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise MalformedError(f"must be true or false, not {_kind(value)}", self.path(name))
        return value

    def moment(self, name: str) -> datetime:
        """A UTC time in ISO 8601 with microseconds and ``Z``."""
        return parse_moment(self.text(name), self.path(name))

    def items(self, name: str, read: Callable[[object, str], Value]) -> tuple[Value, ...]:
        """A list, each element read by ``read(element, its path)``."""
        value = self._take(name)
        if not isinstance(value, list | tuple):
            raise MalformedError(f"must be a list, not {_kind(value)}", self.path(name))
        return tuple(read(element, f"{self.path(name)}[{index}]") for index, element in enumerate(value))

    def table(self, name: str, read: Callable[[object, str], Value]) -> Mapping[str, Value]:
        """An object used as a table: any keys, each value read by ``read(value, its path)``."""
        value = self._take(name)
        if not isinstance(value, Mapping):
            raise MalformedError(f"must be an object, not {_kind(value)}", self.path(name))
        return MappingProxyType({str(key): read(entry, f"{self.path(name)}.{key}") for key, entry in value.items()})

    def nested(self, name: str, read: Callable[[object, str], Value]) -> Value:
        """An object, read by ``read(object, its path)``."""
        return read(self._take(name), self.path(name))

    def optional(self, name: str, read: Callable[[str], Value]) -> Value | None:
        """``None`` where the field is absent or null, else ``read(name)``, such as ``fields.optional("x", fields.text)``."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return None
        return read(name)

    def rest(self) -> Mapping[str, Any]:
        """The fields that this reader does not know; to be kept and written back."""
        return MappingProxyType(dict(self._left)) if self._left else NOTHING

    def _take(self, name: str) -> object:
        try:
            return self._left.pop(name)
        except KeyError:
            raise MalformedError("is missing", self.path(name)) from None


def schema_name(kind: str, version: int) -> str:
    """The value of a document's ``schema`` field."""
    return f"edgewright.{kind}/{version}"


def to_bytes(document: Document) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8, no NaN; the same document always gives the same bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def from_bytes(data: bytes, size_bytes_max: int) -> Document:
    """Decode one JSON object of at most ``size_bytes_max`` bytes.

    Raises:
        TooLargeError: more bytes than allowed; they were not parsed.
        MalformedError: not UTF-8, not JSON, or not an object.
    """
    if len(data) > size_bytes_max:
        raise TooLargeError(f"{len(data)} bytes; at most {size_bytes_max} are allowed")
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise MalformedError(f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedError(f"must be an object, not {_kind(document)}")
    return document


def format_moment(at: datetime) -> str:
    """A UTC time as ISO 8601 with microseconds and ``Z``; naive times are refused."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone cannot cross between device and cloud")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_moment(text: str, where: str = "") -> datetime:
    """The inverse of :func:`format_moment`; accepts any ISO 8601 time that names its zone."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedError(f"{text!r} is not an ISO 8601 time", where) from error
    if at.tzinfo is None:
        raise MalformedError(f"{text!r} does not name its zone", where)
    return at.astimezone(UTC)


def as_text(value: object, where: str) -> str:
    """Element reader for :meth:`Fields.items` and :meth:`Fields.table`: a string."""
    if not isinstance(value, str):
        raise MalformedError(f"must be a string, not {_kind(value)}", where)
    return value


def as_integer(value: object, where: str) -> int:
    """Element reader: a whole number ≥ 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MalformedError(f"must be a whole number of at least 0, not {value!r}", where)
    return value


def as_number(value: object, where: str) -> float:
    """Element reader: a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"must be a number, not {_kind(value)}", where)
    return float(value)


def as_json(value: object, where: str) -> Any:  # noqa: ANN401 - whatever JSON holds is kept as it is
    """Element reader: anything, kept as it is."""
    del where
    return value


def _refuse_constant(name: str) -> float:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
