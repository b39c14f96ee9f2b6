"""A component's configuration: a tree whose every leaf remembers when it was written.

The failure it exists for: a recipe's new defaults that silently do not apply, because a device keeps what an older
deployment wrote. A write counts only where it is not older than what stands there; defaults carry time 0, so they only
fill gaps and replace other defaults. (Measured and read: Lite's ggconfigd; the Java nucleus does the same.)

Pure values: every change returns a new tree. Lists are leaves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

DEFAULT_TIME_MS = 0
"""When a recipe's defaults were written, as far as precedence goes."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that is no object, with its time in ms since the epoch."""

    value: Any
    at_ms: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """One component's tree."""

    root: Mapping[str, Any] = field(default_factory=dict)

    def merge(self, key_path: Sequence[str], value: object, at_ms: int) -> tuple[Self, tuple[KeyPath, ...]]:
        """Write a value (an object merges, everything else replaces); returns the paths whose value changed."""
        wrapped = value
        for key in reversed(key_path):
            wrapped = {key: wrapped}
        if not isinstance(wrapped, Mapping):
            return self, ()
        changed: list[KeyPath] = []
        root = _merge(self.root, wrapped, at_ms, (), changed)
        return type(self)(root), tuple(changed)

    def reset(self, pointers: Sequence[str]) -> Self:
        """Forget what stands at JSON pointers; ``""`` is everything. The defaults are to be merged afterwards."""
        root: Mapping[str, Any] = self.root
        for pointer in pointers:
            path = parse_pointer(pointer)
            root = _without(root, path) if path else {}
        return type(self)(root)

    def value(self, key_path: Sequence[str] = ()) -> object:
        """What stands there, without times.

        Raises:
            KeyError: nothing does.
        """
        node: Any = self.root
        for key in key_path:
            if not isinstance(node, Mapping):
                raise KeyError(key)
            node = node[key]
        return _plain(node)

    def to_document(self) -> dict[str, Any]:
        """For the state file; the inverse of :meth:`read`."""
        return {name: _to_document(node) for name, node in self.root.items()}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Decode what :meth:`to_document` wrote."""
        return cls({name: _from_document(node) for name, node in document.items()})


def parse_pointer(pointer: str) -> KeyPath:
    """A JSON pointer's keys (RFC 6901); ``""`` is the root."""
    if not pointer:
        return ()
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in pointer.removeprefix("/").split("/"))


def _merge(
    old: Mapping[str, Any], new: Mapping[str, Any], at_ms: int, path: KeyPath, changed: list[KeyPath]
) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        here = (*path, key)
        before = merged.get(key)
        if isinstance(value, Mapping) and not isinstance(before, Leaf):
            merged[key] = _merge(before or {}, value, at_ms, here, changed)
        elif max((leaf.at_ms for leaf in _leaves(before)), default=0) <= at_ms:
            merged[key] = _merge({}, value, at_ms, here, []) if isinstance(value, Mapping) else Leaf(value, at_ms)
            if before is None or _plain(before) != value:
                changed.append(here)
    return merged


def _without(node: Mapping[str, Any], path: KeyPath) -> Mapping[str, Any]:
    head, rest = path[0], path[1:]
    if head not in node:
        return node
    if not rest:
        return {key: value for key, value in node.items() if key != head}
    child = node[head]
    return {**node, head: _without(child, rest)} if isinstance(child, Mapping) else node


def _leaves(node: object) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Mapping):
        for child in node.values():
            yield from _leaves(child)


def _plain(node: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, Leaf):
        return node.value
    return {key: _plain(child) for key, child in node.items()} if isinstance(node, Mapping) else node


def _to_document(node: object) -> dict[str, Any]:
    if isinstance(node, Leaf):
        return {"value": node.value, "at_ms": node.at_ms}
    assert isinstance(node, Mapping)
    return {"children": {key: _to_document(child) for key, child in node.items()}}


def _from_document(document: Mapping[str, Any]) -> Any:  # noqa: ANN401 - Leaf or a mapping of such
    if "children" in document:
        return {key: _from_document(child) for key, child in document["children"].items()}
    return Leaf(document["value"], int(document["at_ms"]))
