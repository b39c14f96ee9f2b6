"""A component's configuration as one digest for each value: what a device holds and what was asked for, comparable cheaply.

The failure this exists for: a configuration that is set for a group of devices reaches those that are in it; a device that
joins later never gets it, and nobody can tell. So the heartbeat carries these digests, and a deployment those of what it
and its predecessors have set. Digests, not values: a configuration may hold what belongs into no message.

A value is named by its JSON pointer (RFC 6901); a list is one value. Numbers and texts that read as the same number have
the same digest, and so have ``true`` and the text "true": Greengrass Lite turns the scalars of a YAML recipe into texts.
``accessControl`` is left out: it is the nucleus's business, and comes with the recipe.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

DIGEST_CHARS = 8
LEFT_OUT = "accessControl"


def value_digests(document: Mapping[str, Any]) -> dict[str, str]:
    """JSON pointer to digest, for every value; of an empty object, nothing."""
    shown = {key: value for key, value in document.items() if key != LEFT_OUT}
    return {pointer: value_digest(value) for pointer, value in _leaves(shown, "")}


def value_digest(value: object) -> str:
    """Eight hexadecimal digits of a value."""
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]


def merged(known: Mapping[str, str], update: Mapping[str, Any]) -> dict[str, str]:
    """The digests after a configuration merge: what it sets takes the place of what stood there, below and above."""
    news = value_digests(update)
    kept = {old: digest for old, digest in known.items() if not any(_overlap(old, new) for new in news)}
    return {**kept, **news}


def without(known: Mapping[str, str], pointer: str) -> dict[str, str]:
    """The digests after a reset of one pointer; the empty one resets everything."""
    return {old: digest for old, digest in known.items() if old != pointer and not old.startswith(f"{pointer}/")}


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _leaves(value: object, pointer: str) -> Iterator[tuple[str, object]]:
    if not isinstance(value, Mapping):
        yield pointer, value
        return
    for key, below in value.items():
        yield from _leaves(below, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    return _number(value) if isinstance(value, int | float | str) else value


def _number(value: float | str) -> str:
    """A finite number in one spelling; any other text as it is."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return str(value)
    return repr(number) if math.isfinite(number) else str(value)
