"""Message classes and services from a ``.proto`` file's own text, when the process starts.

The failure this exists for: generated code. It has to be generated again with each change, its version must fit the
protobuf library of the device (a newer major version refuses it), and nobody reads it. The text is the only source here:
no build step, nothing that can drift.

It reads what our files use of proto3: messages, nested ones, enums, ``oneof``, ``map``, ``repeated``, services with
streams, comments. Anything else is a :class:`ProtoTextError`. The classes are in a descriptor pool of their own, so that
another package's messages of the same names may live beside them in one process.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TOKEN = re.compile(r'\s+|//[^\n]*|(?P<word>[A-Za-z_][\w.]*|\d+|"[^"]*"|[{}()<>=;,])')
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _FIELD.TYPE_DOUBLE, "float": _FIELD.TYPE_FLOAT, "int64": _FIELD.TYPE_INT64, "uint64": _FIELD.TYPE_UINT64,
    "int32": _FIELD.TYPE_INT32, "uint32": _FIELD.TYPE_UINT32, "bool": _FIELD.TYPE_BOOL, "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}  # fmt: skip


class ProtoTextError(Exception):
    """The text is not of the part of proto3 that is read here: a defect of ours, not of a client."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One call of a service."""

    request: Any
    response: Any
    is_request_stream: bool
    is_response_stream: bool


@dataclass(frozen=True, slots=True)
class ProtoModule:
    """A file's message classes by name, nested ones as ``Outer.Inner``; and its services' calls by full service name."""

    messages: Mapping[str, Any]
    services: Mapping[str, Mapping[str, Rpc]]


def load_proto(text: str, file_name: str) -> ProtoModule:
    """The classes of a file.

    Raises:
        ProtoTextError: naming the word that was not expected.
    """
    file = parse_proto(text, file_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    prefix = f"{file.package}." if file.package else ""
    messages: dict[str, Any] = {}
    for message in file.message_type:
        _collect(messages, message_factory.GetMessageClass(pool.FindMessageTypeByName(prefix + message.name)))
    services = {
        prefix + service.name: {
            method.name: Rpc(
                messages[method.input_type],
                messages[method.output_type],
                method.client_streaming,
                method.server_streaming,
            )
            for method in service.method
        }
        for service in file.service
    }
    return ProtoModule(messages, services)


def parse_proto(text: str, file_name: str) -> descriptor_pb2.FileDescriptorProto:
    """The file's descriptor.

    Raises:
        ProtoTextError: see :func:`load_proto`.
    """
    return _Reader(text, file_name).file()


def _collect(messages: dict[str, Any], found: Any) -> None:  # noqa: ANN401 - protobuf makes classes at run time
    descriptor = found.DESCRIPTOR
    messages[descriptor.full_name.removeprefix(f"{descriptor.file.package}.")] = found
    for nested in descriptor.nested_types:
        if not nested.GetOptions().map_entry:
            _collect(messages, message_factory.GetMessageClass(nested))


class _Reader:
    """Recursive descent, one method a construct."""

    def __init__(self, text: str, file_name: str) -> None:
        self._words = list(_words(text))
        self._at = 0
        self._file = descriptor_pb2.FileDescriptorProto(name=file_name)

    def file(self) -> descriptor_pb2.FileDescriptorProto:
        while self._at < len(self._words):
            match self._next():
                case "syntax":
                    self._expect("=")
                    self._file.syntax = self._next().strip('"')
                    self._expect(";")
                case "package":
                    self._file.package = self._next()
                    self._expect(";")
                case "message":
                    self._message(self._file.message_type.add())
                case "enum":
                    self._enum(self._file.enum_type.add())
                case "service":
                    self._service(self._file.service.add())
                case word:
                    raise ProtoTextError(f"{self._file.name}: {word!r} is not expected here")
        return self._file

    def _message(self, message: descriptor_pb2.DescriptorProto) -> None:
        message.name = self._next()
        self._expect("{")
        while not self._take("}"):
            if self._take("message"):
                self._message(message.nested_type.add())
            elif self._take("enum"):
                self._enum(message.enum_type.add())
            elif self._take("oneof"):
                self._oneof(message)
            elif self._take("map"):
                self._map(message)
            else:
                self._field(message)

    def _field(self, message: descriptor_pb2.DescriptorProto, oneof_index: int | None = None) -> None:
        field = message.field.add(label=_FIELD.LABEL_REPEATED if self._take("repeated") else _FIELD.LABEL_OPTIONAL)
        self._type(field)
        self._named_number(field)
        if oneof_index is not None:
            field.oneof_index = oneof_index

    def _oneof(self, message: descriptor_pb2.DescriptorProto) -> None:
        message.oneof_decl.add(name=self._next())
        self._expect("{")
        while not self._take("}"):
            self._field(message, len(message.oneof_decl) - 1)

    def _map(self, message: descriptor_pb2.DescriptorProto) -> None:
        """A map is a repeated entry message of key and value on the wire."""
        entry = message.nested_type.add()
        entry.options.map_entry = True
        self._expect("<")
        self._type(entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL))
        self._expect(",")
        self._type(entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL))
        self._expect(">")
        field = message.field.add(label=_FIELD.LABEL_REPEATED)
        self._named_number(field)
        entry.name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
        field.type_name = entry.name

    def _type(self, field: descriptor_pb2.FieldDescriptorProto) -> None:
        word = self._next()
        if word in _SCALARS:
            field.type = _SCALARS[word]
        else:
            field.type_name = word  # message or enum: the pool finds out

    def _named_number(self, field: descriptor_pb2.FieldDescriptorProto) -> None:
        field.name = self._next()
        self._expect("=")
        field.number = int(self._next())
        self._expect(";")

    def _enum(self, enum: descriptor_pb2.EnumDescriptorProto) -> None:
        enum.name = self._next()
        self._expect("{")
        while not self._take("}"):
            name = self._next()
            self._expect("=")
            enum.value.add(name=name, number=int(self._next()))
            self._expect(";")

    def _service(self, service: descriptor_pb2.ServiceDescriptorProto) -> None:
        service.name = self._next()
        self._expect("{")
        while not self._take("}"):
            self._expect("rpc")
            method = service.method.add(name=self._next())
            method.client_streaming, method.input_type = self._rpc_side()
            self._expect("returns")
            method.server_streaming, method.output_type = self._rpc_side()
            self._expect("{")
            self._expect("}")

    def _rpc_side(self) -> tuple[bool, str]:
        self._expect("(")
        is_stream = self._take("stream")
        name = self._next()
        self._expect(")")
        return is_stream, name

    def _next(self) -> str:
        if self._at >= len(self._words):
            raise ProtoTextError(f"{self._file.name}: the text ends in mid-sentence")
        self._at += 1
        return self._words[self._at - 1]

    def _take(self, word: str) -> bool:
        found = self._at < len(self._words) and self._words[self._at] == word
        self._at += found
        return found

    def _expect(self, word: str) -> None:
        found = self._next()
        if found != word:
            raise ProtoTextError(f"{self._file.name}: {found!r} where {word!r} is expected")


def _words(text: str) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ProtoTextError(f"cannot read {text[at : at + 20]!r}")
        at = match.end()
        if match["word"]:
            words.append(match["word"])
    return words
