"""Every request against botocore's own service model: types, required members, lengths, ranges, patterns, enums.

The failure this exists for: moto accepts whatever it is sent, so a misspelt policy or an impossible version passes all
tests and is refused by AWS on the first real day. boto3 itself checks types, required members and minima before it
sends; AWS checks the rest, and so does this. It looks at shapes only: what a value *refers to* (a thing, an object) is
checked by the services.

Pure and stateless.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape

from simulator.aws.errors import InvalidRequestError
from simulator.aws.json_types import Json

VIOLATIONS_SHOWN_MAX = 10
VALUE_CHARS_SHOWN_MAX = 200

ERROR_CODES: Mapping[str, str] = {
    # The code with which each service refuses a malformed request; ValidationException where it is not listed.
    "iot": "InvalidRequestException",
    "iot-data": "InvalidRequestException",
    "iot-jobs-data": "InvalidRequestException",
    "s3": "InvalidArgument",
    "sqs": "InvalidParameterValue",
    "sns": "InvalidParameter",
    "iam": "ValidationError",
    "sts": "ValidationError",
    "cloudformation": "ValidationError",
    "cloudwatch": "ValidationError",
    "logs": "InvalidParameterException",
    "ecr": "InvalidParameterException",
    "firehose": "InvalidArgumentException",
}

_INTEGERS = {"integer", "long", "short", "byte"}
_FLOATS = {"float", "double"}


def validate(service: str, operation: OperationModel, parameters: Mapping[str, Any]) -> None:
    """Check the parameters of one request.

    Raises:
        InvalidRequestError: with the service's own code; the message names each member and constraint, as AWS does.
    """
    if operation.input_shape is None:
        return
    found = list(violations(operation.input_shape, parameters))
    if found:
        shown = "; ".join(found[:VIOLATIONS_SHOWN_MAX])
        plural = "" if len(found) == 1 else "s"
        raise InvalidRequestError(
            ERROR_CODES.get(service, "ValidationException"),
            f"{len(found)} validation error{plural} detected: {shown}",
            status=400,
        )


def violations(shape: Shape, value: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Each constraint of the shape that the value breaks, as a sentence that names the member."""
    if value is None:
        return
    if isinstance(shape, StructureShape):
        yield from _structure(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _list(shape, value, path)
    elif isinstance(shape, MapShape):
        yield from _map(shape, value, path)
    else:
        yield from _scalar(shape, value, path)


def _structure(shape: StructureShape, value: Json, path: str) -> Iterator[str]:
    if shape.is_document_type:
        return
    if not isinstance(value, Mapping):
        yield _says(value, path, "Member must be a structure")
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield _says(None, _below(path, name), "Member must not be null")
    for name, member in shape.members.items():
        yield from violations(member, value.get(name), _below(path, name))
    if shape.is_tagged_union and sum(item is not None for item in value.values()) != 1:
        yield _says(dict(value), path, f"Exactly one of {sorted(shape.members)} must be set")


def _list(shape: ListShape, value: Json, path: str) -> Iterator[str]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        yield _says(value, path, "Member must be a list")
        return
    yield from _size(shape, len(value), value, path)
    for index, item in enumerate(value, start=1):
        yield from violations(shape.member, item, f"{path}.{index}.member")


def _map(shape: MapShape, value: Json, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _says(value, path, "Member must be a map")
        return
    yield from _size(shape, len(value), value, path)
    for key, item in value.items():
        yield from violations(shape.key, key, f"{path}.key")
        yield from violations(shape.value, item, f"{path}.{key}.member")


def _scalar(shape: Shape, value: Json, path: str) -> Iterator[str]:
    kind = shape.type_name
    if kind in _INTEGERS or kind in _FLOATS:
        yield from _number(shape, value, path)
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield _says(value, path, "Member must be a boolean")
    elif kind == "timestamp":
        if not isinstance(value, datetime):
            yield _says(value, path, "Member must be a timestamp")
    elif kind == "blob":
        if isinstance(value, bytes | str):
            yield from _size(shape, len(value), "<bytes>", path)
    else:
        yield from _string(shape, value, path)


def _number(shape: Shape, value: Json, path: str) -> Iterator[str]:
    numeric = isinstance(value, int) or (shape.type_name in _FLOATS and isinstance(value, float))
    if isinstance(value, bool) or not numeric:
        yield _says(value, path, f"Member must be of type {shape.type_name}")
        return
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and value < low:
        yield _says(value, path, f"Member must have value greater than or equal to {low}")
    if high is not None and value > high:
        yield _says(value, path, f"Member must have value less than or equal to {high}")


def _string(shape: Shape, value: Json, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _says(value, path, "Member must be a string")
        return
    yield from _size(shape, len(value), value, path)
    allowed = shape.enum if isinstance(shape, StringShape) else []
    if allowed and value not in allowed:
        yield _says(value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
    pattern = shape.metadata.get("pattern")
    compiled = compiled_pattern(pattern) if pattern else None
    if compiled is not None and not compiled.fullmatch(value):
        yield _says(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _size(shape: Shape, size: int, value: Json, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield _says(value, path, f"Member must have length greater than or equal to {low}")
    if high is not None and size > high:
        yield _says(value, path, f"Member must have length less than or equal to {high}")


_JAVA_CLASSES = {
    # Java's Unicode categories, which Python's re does not know, as the widest ASCII-safe range that is legal both
    # inside and outside of brackets. Wider than AWS's, so nothing valid is refused.
    r"\p{L}": r"\w", r"\p{Lu}": r"\w", r"\p{Ll}": r"\w", r"\p{M}": r"\u0300-\u036f", r"\p{N}": r"\d", r"\p{Nd}": r"\d",
    r"\p{Z}": r"\s", r"\p{Zs}": r"\s", r"\p{S}": r"\u0020-\uffff", r"\p{P}": r"\u0020-\uffff", r"\p{C}": r"\x00-\x1f",
    r"\p{Upper}": "A-Z", r"\p{Lower}": "a-z", r"\p{Alnum}": "a-zA-Z0-9", r"\p{Alpha}": "a-zA-Z", r"\p{Digit}": "0-9", r"\p{Print}": r"\x20-\x7e",
    r"\p{Graph}": r"\x21-\x7e", r"\p{Punct}": r"!-/:-@\[-`{-~", r"\p{ASCII}": r"\x00-\x7f",
    r"\p{IsLetter}": r"\w", r"\p{InCyrillic}": r"\u0400-\u04ff",
}  # fmt: skip


_JAVA_SURROGATES = r"\uD800\uDC00-\uDBFF\uDFFF"
_STRAY_REPEAT = re.compile(r"\$\{\d+,\d+\}$")
"""Two SageMaker patterns end in ``${1,128}``, a repetition of the end of the text; the length has its own constraint."""


@cache
def compiled_pattern(pattern: str) -> re.Pattern[str] | None:
    """A model's pattern for Python's ``re``, matched against the whole value as AWS does.

    ``None`` for one that only Java understands; a test shows that no real operation has such a one.
    """
    translated = re.sub(r"\\x\{([0-9A-Fa-f]+)\}", lambda found: f"\\U{int(found[1], 16):08x}", pattern)
    translated = _STRAY_REPEAT.sub("", translated.replace(_JAVA_SURROGATES, r"\U00010000-\U0010FFFF"))
    for java, python in _JAVA_CLASSES.items():
        translated = translated.replace(java, python)
    try:
        return re.compile(translated)
    except re.error:
        return None


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _says(value: Json, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{str(value)[:VALUE_CHARS_SHOWN_MAX]}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"
