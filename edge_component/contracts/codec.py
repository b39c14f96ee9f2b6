"""JSON documents in and out of frozen values, with errors that name the field.

The failure this exists for: an old reader that drops, or chokes on, what a newer writer added. So each document names
its schema and major version (``"schema": "edgewright.heartbeat/1"``), and each value keeps the fields it does not know
in ``extra`` and writes them back. The law, tested for every contract::

    decode(encode(value)) == value        encode(decode(document)) == document

The second holds for documents as our writers make them; a ``null`` for an optional field, or a time in another zone, is
read too and comes back in the usual form. Whatever is accepted can be written again: numbers that are not finite,
strings that are not Unicode, a name given twice, and nesting without end are refused on the way in.

It is not a validator of meaning: that a version is newer, or a digest true, is decided elsewhere. No state is shared;
everything here may be called from any thread.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from edge_component.contracts.errors import MalformedError, TooLargeError, UnsupportedVersionError
from edge_component.contracts.limits import LIMITS

Document = Mapping[str, Any]
Value = TypeVar("Value")


class Table(Mapping[str, Value]):
    """A mapping that is as frozen as the values it lives in: it can be hashed, copied and pickled.

    ``MappingProxyType`` can do none of these, and Python 3.11 refuses it as a dataclass's default.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Value]) -> None:
        """Copy the entries."""
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Value:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash(frozenset(self._entries))  # the values may be lists; equal tables have equal names

    def __repr__(self) -> str:
        return repr(self._entries)


NOTHING: Mapping[str, Any] = Table({})
VERSION_PATTERN = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?")
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")
INTEGER_MAX = 2**63 - 1
NAME_TOLD_CHARS_MAX = 80


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

    def text(self, name: str, *, pattern: re.Pattern[str] | None = None, chars_max: int | None = None) -> str:
        """A string; with ``pattern``, one that it matches from end to end; of at most ``chars_max`` characters."""
        value = as_text(self._take(name), self.path(name))
        if chars_max is not None and len(value) > chars_max:
            raise MalformedError(f"has {len(value)} characters; at most {chars_max} are allowed", self.path(name))
        if pattern is not None and not pattern.fullmatch(value):
            raise MalformedError(f"{value!r} does not match {pattern.pattern}", self.path(name))
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """A string out of a closed set."""
        value = self.text(name)
        if value not in allowed:
            raise MalformedError(f"{value!r} is none of {', '.join(allowed)}", self.path(name))
        return value

    def integer(self, name: str, *, minimum: int = 0, maximum: int = INTEGER_MAX) -> int:
        """A whole number within inclusive bounds. JSON's ``true`` is not a number."""
        return as_integer(self._take(name), self.path(name), minimum=minimum, maximum=maximum)

    def number(self, name: str) -> float:
        """A finite number; whole numbers are read as floats."""
        return as_number(self._take(name), self.path(name))

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
        return Table({str(key): read(entry, f"{self.path(name)}.{key}") for key, entry in value.items()})

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
        return Table(self._left) if self._left else NOTHING

    def _take(self, name: str) -> object:
        try:
            return self._left.pop(name)
        except KeyError:
            raise MalformedError("is missing", self.path(name)) from None


def schema_name(kind: str, version: int) -> str:
    """The value of a document's ``schema`` field."""
    return f"edgewright.{kind}/{version}"


def to_bytes(document: Document) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8, no NaN; the same document always gives the same bytes.

    Raises:
        MalformedError: the document holds what JSON cannot: a number that is not finite, a string that is not Unicode,
            or a value of another kind.
    """
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedError(f"cannot be written as JSON: {error}") from error


def from_bytes(data: bytes, size_bytes_max: int) -> Document:
    """Decode one JSON object of at most ``size_bytes_max`` bytes.

    Raises:
        TooLargeError: more bytes than allowed; they were not parsed.
        MalformedError: not UTF-8, not JSON, not an object, or something that :func:`to_bytes` could not write again.
    """
    if len(data) > size_bytes_max:
        raise TooLargeError(f"{len(data)} bytes; at most {size_bytes_max} are allowed")
    try:
        text = bytes(data).decode("utf-8")
        document = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite_float, object_pairs_hook=_without_repeats
        )
    except (ValueError, RecursionError) as error:  # ValueError: also integers of more digits than Python converts
        raise MalformedError(f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedError(f"must be an object, not {_kind(document)}")
    _check_nesting(document)
    if "\\u" in text:  # only an escape can smuggle in half a surrogate pair
        to_bytes(document)
    return document


def format_moment(at: datetime) -> str:
    """A UTC time as ISO 8601 with microseconds and ``Z``; naive times are refused."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone cannot cross between device and cloud")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_moment(text: str, where: str = "") -> datetime:
    """The inverse of :func:`format_moment`; accepts any ISO 8601 time that names its zone."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise MalformedError(f"{text!r} does not name its zone", where)
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # OverflowError: year 1 or 9999, moved out of range by its zone
        raise MalformedError(f"{text!r} is not an ISO 8601 time", where) from error


def as_text(value: object, where: str) -> str:
    """Element reader for :meth:`Fields.items` and :meth:`Fields.table`: a string."""
    if not isinstance(value, str):
        raise MalformedError(f"must be a string, not {_kind(value)}", where)
    return value


def as_integer(value: object, where: str, *, minimum: int = 0, maximum: int = INTEGER_MAX) -> int:
    """Element reader: a whole number within inclusive bounds. JSON's ``true`` is not a number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedError(f"must be a whole number, not {_kind(value)}", where)
    if not minimum <= value <= maximum:
        raise MalformedError(f"is not within {minimum} and {maximum}", where)
    return value


def as_number(value: object, where: str) -> float:
    """Element reader: a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"must be a number, not {_kind(value)}", where)
    try:
        number = float(value)
    except OverflowError as error:
        raise MalformedError("is too large for a number", where) from error
    if not math.isfinite(number):
        raise MalformedError(f"must be a finite number, not {number}", where)
    return number


def as_json(value: object, where: str) -> Any:  # noqa: ANN401 - whatever JSON holds is kept as it is
    """Element reader: anything, kept as it is."""
    del where
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is beyond the range of a 64-bit float")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{repeated[:NAME_TOLD_CHARS_MAX]!r} is given twice in one object")
    return document


def _check_nesting(document: object) -> None:
    level: list[object] = [document]
    for _ in range(LIMITS.nesting_levels_max):
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]  # type: ignore[attr-defined]
        if not level:
            return
    raise MalformedError(f"is nested deeper than {LIMITS.nesting_levels_max} levels")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
