"""Which operations the local cloud answers, and who answers each.

The failure this exists for: a stand-in that says 200 to an operation it does not perform. So the register is deny by
default: an operation is either ours (a handler), or one of moto's that was checked and listed by name, or it answers
501. It routes nothing by itself (:mod:`simulator.aws.front` does) and knows no HTTP.

Filled while the services are installed, read-only afterwards; therefore without a lock.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from werkzeug.wrappers import Response


@dataclass(frozen=True, slots=True)
class Call:
    """One validated request.

    Attributes:
        service: botocore's name of the service, such as ``iot-jobs-data``.
        operation: the operation, such as ``CreateJob``.
        parameters: members by the names of botocore's model, with its Python types.
        region: region the request was signed for.
        account_id: always the local account.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    region: str
    account_id: str


Handler = Callable[[Call], Mapping[str, Any] | None]
"""Answers a call with the members of its output shape (``None`` for no output), or raises :class:`AwsError`.

Runs on a server thread, many at once.
"""

Check = Callable[[Call], None]
"""Runs before the operation; raises :class:`AwsError` to refuse it."""

Reaction = Callable[[Call, Response], None]
"""Runs after the operation succeeded, before its response (which it may change) is sent."""


class Source(Enum):
    """Who performs an operation."""

    EDGEWRIGHT = "edgewright"
    MOTO = "moto"


class Operations:
    """The register."""

    def __init__(self) -> None:
        """Knows nothing, hence refuses everything."""
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._moto: set[tuple[str, str]] = set()
        self._checks: dict[tuple[str, str], list[Check]] = {}
        self._reactions: dict[tuple[str, str], list[Reaction]] = {}

    def serve(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Answer these operations of a service ourselves, also where moto was trusted with them before."""
        for name, handler in handlers.items():
            self._handlers[service, name] = handler

    def trust_moto(self, service: str, names: Iterable[str]) -> None:
        """Let moto answer these operations; only what was tried and found to do what it says."""
        self._moto.update((service, name) for name in names)

    def before(self, service: str, operation: str, check: Check) -> None:
        """Run a check before an operation, whoever performs it."""
        self._checks.setdefault((service, operation), []).append(check)

    def after(self, service: str, operation: str, reaction: Reaction) -> None:
        """Run a reaction after an operation succeeded, whoever performed it."""
        self._reactions.setdefault((service, operation), []).append(reaction)

    def source(self, service: str, operation: str) -> Source | None:
        """Who performs an operation; ``None`` means nobody, which is a 501."""
        if (service, operation) in self._handlers:
            return Source.EDGEWRIGHT
        return Source.MOTO if (service, operation) in self._moto else None

    def handler(self, service: str, operation: str) -> Handler:
        """Our own handler of an operation whose source is :attr:`Source.EDGEWRIGHT`."""
        return self._handlers[service, operation]

    def check(self, call: Call) -> None:
        """Run the checks of a call.

        Raises:
            AwsError: the first check that refuses.
        """
        for check in self._checks.get((call.service, call.operation), ()):
            check(call)

    def react(self, call: Call, response: Response) -> None:
        """Run the reactions to a call that succeeded."""
        for reaction in self._reactions.get((call.service, call.operation), ()):
            reaction(call, response)

    def real(self) -> dict[str, dict[str, Source]]:
        """Every real operation by service and name, sorted: what ``simulator/README.md`` lists."""
        found: dict[str, dict[str, Source]] = {}
        for service, name in sorted({*self._handlers, *self._moto}):
            found.setdefault(service, {})[name] = (
                Source.EDGEWRIGHT if (service, name) in self._handlers else Source.MOTO
            )
        return found
