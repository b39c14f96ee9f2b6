"""A runtime that lies: an honest conversation, in which now and then a message, a descriptor or the silence is not."""

import errno
import fcntl
import json
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_component.contracts.codec import Document
from edge_component.contracts.fastpath import (
    ANSWER_HEAD,
    MESSAGE_BYTES_MAX,
    REQUEST_HEAD,
    Failure,
    Kind,
    Opened,
    Region,
    Welcome,
    pack_failed,
)
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import TensorSpec
from edge_component.serving.channel import SEALS

OPENED = Opened(
    0,
    ModelRef("scale", "1.0.0", "a" * 64),
    1,
    (Region(TensorSpec("x", "float32", (-1, 3)), 0, 4096),),
    (Region(TensorSpec("y", "float32", (-1, 3)), 4096, 4096),),
    2,
    8192,
)
VALUES = (
    -1, 0, 1, 3, 255, 257, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**64, 2**64 + 64,
    10**30, 1.5, 1e308, True, None, "", "float64", "bfloat16", "string", "\0", "\ud83d\ude00" * 100, "x" * 5_000, [], [[]], {}, {"": {}}, [1] * 40,
    [-1, 3] * 20, [2**32, 2**32, 2**32], [-5], ["3"],
)  # fmt: skip
"""For any field, in place of the right one."""
NUMBERS = (0, 1, 2, 255, 256, 2**16, 2**31, 2**32 - 1, 2**32 - 3)
BOMBS = (
    b"[" * 60_000,
    b'{"a":' * 12_000,
    b'"' + b"\\" * 60_000,
    b'{"schema":"' + b"a" * 60_000,
    b"\0" * 60_000,
    b"{" + b"," * 50_000,
)


def planted(document: Any, value: object, chance: random.Random) -> Any:
    """The same document, one of its fields at any depth replaced or gone."""
    names = list(document) if isinstance(document, dict) else list(range(len(document)))
    name = chance.choice(names)
    inner = document[name]
    copy = document.copy()
    if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
        copy[name] = planted(inner, value, chance)
    elif chance.random() < 0.2:
        del copy[name]
    else:
        copy[name] = value
    return copy


class Liar:
    """One conversation; ``lies`` is how many of its messages are none."""

    def __init__(self, connection: socket.socket, chance: random.Random, lies: float) -> None:
        self._connection, self._chance, self._lies = connection, chance, lies
        self._shrinks: list[int] = []

    def converse(self) -> None:
        with self._connection, suppress(OSError):
            while message := self._connection.recv(MESSAGE_BYTES_MAX):
                self._shrink()
                if not self._answer(message):
                    return
        self._shrink()

    def _answer(self, message: bytes) -> bool:
        chance = self._chance
        kind, descriptors = message[0], list[int]()
        if kind == Kind.HELLO:
            answer = self._control(Kind.WELCOME, Welcome(1, "1.0.0", 1).to_document())
        elif kind == Kind.OPEN:
            answer, descriptors = self._control(Kind.OPENED, OPENED.to_document()), self._memory()
        elif kind == Kind.CLOSE:
            answer = self._control(Kind.CLOSED, {"channel": 0})
        else:
            answer = self._outcome(message)
        if self._lie(0.3):
            answer = self._garbled(answer)
        if self._lie(0.1):
            return False
        if self._lie(0.05):
            return True  # silent
        if self._lie(0.1):
            descriptors += [os.memfd_create("unasked") for _ in range(chance.randint(1, 4))]
        for _ in range(1 + 3 * self._lie(0.05)):
            socket.send_fds(self._connection, [answer], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _lie(self, share: float) -> bool:
        return self._chance.random() < self._lies * share

    def _control(self, kind: Kind, document: Document) -> bytes:
        chance = self._chance
        if self._lie(0.1):
            kind = chance.choice(list(Kind))
        if self._lie(0.1):
            return bytes([kind]) + chance.choice(BOMBS)
        if self._lie(0.1):
            return self._refusal()
        told = json.loads(json.dumps(document))
        while self._lie(0.6):
            told = planted(told, chance.choice(VALUES), chance) or {"": 0}
        return bytes([kind]) + json.dumps(told, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")

    def _refusal(self) -> bytes:
        codes = (
            "stale-channel",
            "answer-too-large",
            "unknown-channel",
            "overloaded",
            "deadline-exceeded",
            "busy",
            "new",
        )
        told = Failure(self._chance.choice(codes), "no", "", 2**40, 10**15).to_document()
        if self._lie(0.5):
            told = planted(told, self._chance.choice(VALUES), self._chance)
        return bytes([Kind.REFUSED]) + json.dumps(told).encode()

    def _outcome(self, request: bytes) -> bytes:
        chance = self._chance
        if len(request) < REQUEST_HEAD.size:
            return self._refusal()
        _, _, channel, sequence, _ = REQUEST_HEAD.unpack_from(request)
        if self._lie(0.2):
            return pack_failed(channel, sequence, Failure("run-failed", "no"))[:8] + self._refusal()[1:]
        number = chance.choice(NUMBERS)
        flags, generation, dimensions = 0, 1, [1, 3]
        if self._lie(0.2):
            flags = chance.choice((1, 1, 2, 255))
        if self._lie(0.1):
            generation = number
        if self._lie(0.1):
            sequence = number
        if self._lie(0.2):
            dimensions = chance.choices(NUMBERS, k=chance.choice((0, 1, 2, 2, 2, 3, 64)))
        name = self._control(Kind.ANSWER, OPENED.model.to_document())[1:] if flags & 1 else b""
        head = ANSWER_HEAD.pack(Kind.ANSWER, flags, channel, sequence, generation, 5)
        return head + struct.pack(f"<{len(dimensions)}I", *dimensions) + name

    def _garbled(self, answer: bytes) -> bytes:
        chance = self._chance
        if chance.random() < 0.3:
            return answer[: chance.randrange(len(answer))]
        if chance.random() < 0.2:
            return (answer + bytes(MESSAGE_BYTES_MAX + 1))[: MESSAGE_BYTES_MAX + chance.randint(-1, 1)]
        changed = bytearray(answer)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)

    def _memory(self) -> list[int]:
        chance = self._chance
        if self._lie(0.05):
            return []
        if self._lie(0.1):
            return [os.open(chance.choice(("/dev/null", "/", "/dev/zero", "/proc/self/exe")), os.O_RDONLY)]
        memory = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
        size = chance.choice((0, 1, 4096, 8192, OPENED.size_bytes - 1)) if self._lie(0.2) else OPENED.size_bytes
        os.ftruncate(memory, size)
        if self._lie(0.3):
            self._shrinks.append(os.dup(memory))
        else:
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        if self._lie(0.1):
            reading = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
            os.close(memory)
            return [reading]
        return [memory]

    def _shrink(self) -> None:
        """What was not sealed is taken away, which ends whoever touches it."""
        for memory in self._shrinks:
            os.ftruncate(memory, 0)
            os.close(memory)
        self._shrinks.clear()


@contextmanager
def lying_runtime(path: Path, seed: int, lies: float = 0.5) -> Iterator[None]:
    """Listens until the end, each connection with lies of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen(64)
        threads: list[threading.Thread] = []

        def accept() -> None:
            for number in range(1_000_000):
                try:
                    connection, _ = listening.accept()
                except OSError as error:
                    assert error.errno == errno.EINVAL, error  # noqa: PT017 - shut down, that is
                    return
                liar = Liar(connection, random.Random(seed * 1_000_000 + number), lies)
                threads.append(threading.Thread(target=liar.converse))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()
