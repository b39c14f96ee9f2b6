"""Things and thing groups, as the port that IoT Jobs and Greengrass see, over moto's registry.

moto owns the registry (CreateThing, AddThingToThingGroup …); this only reads it. A group's members include those of its
child groups, as when AWS fans a job out.

Concurrency: reads copies; safe beside moto's own threads.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from moto.iot.models import iot_backends

from simulator.aws.cloud import Cloud


@dataclass(frozen=True, slots=True)
class Group:
    """One thing group.

    Attributes:
        name: the group's name.
        arn: its ARN.
        parents: names of the groups above it, the root first.
    """

    name: str
    arn: str
    parents: tuple[str, ...] = ()


class Things(Protocol):
    """What must be known about things."""

    def has(self, thing_name: str) -> bool:
        """Whether the thing is registered."""

    def group(self, name: str) -> Group | None:
        """The group of that name."""

    def members(self, group_name: str) -> frozenset[str]:
        """Names of the things in a group and in the groups below it."""

    def groups_of(self, thing_name: str) -> tuple[Group, ...]:
        """The groups a thing was added to, by name."""


class MotoThings:
    """moto's registry of the local account."""

    def __init__(self, cloud: Cloud) -> None:
        """Reads the region's registry each time, since moto's reset replaces it."""
        self._cloud = cloud

    def has(self, thing_name: str) -> bool:
        """See :class:`Things`."""
        return f"{arn_prefix(self._cloud)}:thing/{thing_name}" in self._backend.things

    def group(self, name: str) -> Group | None:
        """See :class:`Things`."""
        found = self._backend.thing_groups.get(f"{arn_prefix(self._cloud)}:thinggroup/{name}")
        return None if found is None else _group(found)

    def members(self, group_name: str) -> frozenset[str]:
        """See :class:`Things`."""
        names: set[str] = set()
        for group in self._all_groups():
            if group_name == group.thing_group_name or group_name in _group(group).parents:
                names.update(thing.thing_name for thing in list(group.things.values()))
        return frozenset(names)

    def groups_of(self, thing_name: str) -> tuple[Group, ...]:
        """See :class:`Things`."""
        thing_arn = f"{arn_prefix(self._cloud)}:thing/{thing_name}"
        found = (_group(group) for group in self._all_groups() if thing_arn in group.things)
        return tuple(sorted(found, key=lambda group: group.name))

    @property
    def _backend(self) -> Any:  # noqa: ANN401 - moto has no types
        return iot_backends[self._cloud.account_id][self._cloud.region]

    def _all_groups(self) -> Iterable[Any]:
        return list(self._backend.thing_groups.values())


def kind_and_name(arn: str) -> tuple[str, str]:
    """``thing`` or ``thinggroup``, and its name, which may have colons of its own."""
    kind, _, name = arn.split(":", 5)[-1].partition("/")
    return kind, name


def arn_prefix(cloud: Cloud) -> str:
    """``arn:aws:iot:<region>:<account>``."""
    return f"arn:aws:iot:{cloud.region}:{cloud.account_id}"


def _group(group: Any) -> Group:  # noqa: ANN401 - moto has no types
    above = group.metadata.get("rootToParentThingGroups", ())
    return Group(group.thing_group_name, group.arn, tuple(parent["groupName"] for parent in above))


class InMemoryThings:
    """A registry of plain values, for tests of what stands on it; mutate :attr:`things` and :attr:`groups` freely.

    Attributes:
        things: names of the registered things.
        groups: members of each group, by the group's name.
    """

    def __init__(self, prefix: str = "arn:aws:iot:us-east-1:123456789012") -> None:
        """Empty."""
        self.things: set[str] = set()
        self.groups: dict[str, set[str]] = {}
        self._prefix = prefix

    def has(self, thing_name: str) -> bool:
        """See :class:`Things`."""
        return thing_name in self.things

    def group(self, name: str) -> Group | None:
        """See :class:`Things`."""
        return Group(name, f"{self._prefix}:thinggroup/{name}") if name in self.groups else None

    def members(self, group_name: str) -> frozenset[str]:
        """See :class:`Things`."""
        return frozenset(self.groups.get(group_name, ()))

    def groups_of(self, thing_name: str) -> tuple[Group, ...]:
        """See :class:`Things`."""
        return tuple(
            Group(name, f"{self._prefix}:thinggroup/{name}")
            for name, members in sorted(self.groups.items())
            if thing_name in members
        )
