"""The fast path's specification is what the codec does: its tables and its examples, read out of the page itself."""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_component.contracts import fastpath
from edge_component.contracts.codec import Fields, to_bytes
from edge_component.contracts.errors import MalformedError
from edge_component.contracts.fastpath import ANSWER_HEAD, FAILED_HEAD, REQUEST_HEAD, Kind, unpack_control
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import DTYPES
from edge_component.errors import DeviceError, UnknownModelError, UnknownVersionError, UnsupportedTensorError
from edge_component.inference import errors

PAGE = Path(fastpath.__file__).with_name("README.md").read_text().partition("## Fast path")[2]
HEADS = {"REQUEST": REQUEST_HEAD, "ANSWER": ANSWER_HEAD, "FAILED": FAILED_HEAD}
READERS: dict[str, Any] = {
    "HELLO": fastpath.Hello, "WELCOME": fastpath.Welcome, "OPEN": fastpath.Open, "OPENED": fastpath.Opened,
    "REFUSED": fastpath.Failure, "FAILED": fastpath.Failure,
}  # fmt: skip
IN_THE_EXAMPLES = ("key", "sequence", "needed_bytes", "retry_after_ms")
"""Optional fields that no example needs."""


def table(*columns: str) -> list[list[str]]:
    """The rows of the table with that head."""
    _, found, rest = PAGE.partition("\n| " + " | ".join(columns) + " |\n")
    assert found, columns
    lines = rest.splitlines()[1:]
    rows = lines[: next(at for at, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def examples() -> list[tuple[str, bytes]]:
    """What each line of the conversation is called, and its message."""
    (block,) = re.findall(r"```fastpath\n(.*?)```", PAGE, re.DOTALL)
    told = [re.fullmatch(r"([A-Z]+) +((?:[0-9a-f]{2} ?)+)(\{.*\})?", line) for line in block.splitlines()]
    assert all(told), block
    return [(line[1], bytes.fromhex(line[2]) + (line[3] or "").encode()) for line in told if line]


def documents(name: str) -> Iterator[dict[str, Any]]:
    for found, message in examples():
        if found == name:
            yield json.loads(message[HEADS[name].size if name in HEADS else 1 :])


def read(name: str, document: Mapping[str, Any]) -> None:
    if name in READERS:
        READERS[name].read(document)
    else:
        Fields(document).integer("channel")


def test_every_kind_is_told_with_its_number() -> None:
    told = {row[1]: int(row[0]) for row in table("kind", "message", "from", "is", "answered by")}
    assert told == {kind.name: kind.value for kind in Kind}


@pytest.mark.parametrize("name", HEADS)
def test_numbers_lie_where_the_table_says(name: str) -> None:
    letters = HEADS[name].format.removeprefix("<")
    at, expected = 0, []
    for letter in letters:
        end = at + struct.calcsize("<" + letter)
        expected.append(f"{at}" if end == at + 1 else f"{at}-{end - 1}")
        at = end
    rows = table(name, "bytes", "is")
    assert [row[1] for row in rows] == [*expected, f"{at}-"]
    assert (rows[0][0], rows[0][2]) == ("`kind`", str(Kind[name].value))


def test_examples_show_every_message() -> None:
    assert {name for name, _ in examples()} == {kind.name for kind in Kind}
    assert all(message[0] == Kind[name] for name, message in examples())


@pytest.mark.parametrize("name", ["HELLO", "WELCOME", "OPEN", "OPENED", "CLOSE", "CLOSED", "REFUSED"])
def test_control_messages_are_what_the_codec_writes(name: str) -> None:
    for found, message in examples():
        if found == name:
            _, document = unpack_control(message, Kind[name])
            written = READERS[name].read(document).to_document() if name in READERS else document
            assert bytes([Kind[name]]) + to_bytes(written) == message


def test_data_messages_are_what_the_codec_writes() -> None:
    digest = "b" * 64
    failure = fastpath.Failure("stale-channel", "scale 2.0.0 takes or gives other tensors now")
    assert [message for name, message in examples() if name in HEADS] == [
        REQUEST_HEAD.pack(Kind.REQUEST, 1, 3, 1, 20_000) + struct.pack("<2I", 2, 3),
        ANSWER_HEAD.pack(Kind.ANSWER, 0, 3, 1, 7, 31) + struct.pack("<2I", 2, 3),
        REQUEST_HEAD.pack(Kind.REQUEST, 0, 3, 2, 0) + struct.pack("<2I", 1, 3),
        ANSWER_HEAD.pack(Kind.ANSWER, fastpath.MODEL_NAMED, 3, 2, 8, 30)
        + struct.pack("<2I", 1, 3)
        + to_bytes(ModelRef("scale", "1.1.0", digest).to_document()),
        REQUEST_HEAD.pack(Kind.REQUEST, 1, 3, 3, 0) + struct.pack("<2I", 1, 3),
        fastpath.pack_failed(3, 3, failure),
    ]


def test_fields_are_those_that_are_read_and_those_that_must_be_there_must() -> None:
    told: dict[str, dict[str, bool]] = {}
    for messages, field, _, absent in table("message", "field", "is", "if absent"):
        for name in messages.split(", "):
            told.setdefault(name, {})[field.strip("`")] = absent in ("refused", "never")
    assert told.keys() == READERS.keys() | {"CLOSE", "CLOSED"}
    for name, fields in told.items():
        for document in documents(name):
            assert document.keys() <= fields.keys()
            assert fields.keys() - document.keys() <= set(IN_THE_EXAMPLES)
            for field, is_needed in fields.items():
                less = {key: value for key, value in document.items() if key != field}
                if is_needed:
                    with pytest.raises(MalformedError, match=field):
                        read(name, less)
                else:
                    read(name, less)
                    read(name, less | {field: None})
                    with pytest.raises(MalformedError, match=field):
                        read(name, less | {field: []})


def test_dtypes_are_those_of_the_manifest_that_numpy_has() -> None:
    told = {
        dtype: int(row[1]) for row in table("`dtype`", "bytes", "element") for dtype in re.findall(r"`(\w+)`", row[0])
    }
    assert told == {dtype: np.dtype(dtype).itemsize for dtype in set(DTYPES) - {"string", "bfloat16"}}


def test_codes_are_all_there_and_none_that_is_not() -> None:
    told = {code for row in table("code", "whose move") for code in re.findall(r"`([a-z-]+)`", row[0])}
    own = {error.code for error in vars(errors).values() if isinstance(error, type) and issubclass(error, DeviceError)}
    unheard = {DeviceError.code, errors.RequestError.code, errors.RunCancelledError.code}
    found = {UnknownModelError.code, UnknownVersionError.code, UnsupportedTensorError.code}
    assert told == (own - unheard) | found
