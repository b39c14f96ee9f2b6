"""Which call a method and a path are: patterns whose ``*`` stands for one segment that is not empty; HEAD is GET here, too.

Pure.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote

from edge_component.serving.http_messages import HttpError

T = TypeVar("T")
VERBS = ("GET", "POST")
ANY = "*"
REMEMBERED_MAX = 256


class Routes(Generic[T]):
    """``{"GET v2/models/*": …}``; where several patterns match, the first counts."""

    def __init__(self, table: Mapping[str, T]) -> None:
        """Sort the patterns by method and length, so that a request is compared with few of them."""
        self._found: dict[tuple[str, str], tuple[T, tuple[str, ...]]] = {}
        self._by_size: dict[tuple[str, int], list[tuple[tuple[str, ...], T]]] = {}
        for line, target in table.items():
            method, _, path = line.partition(" ")
            pattern = tuple(path.split("/"))
            self._by_size.setdefault((method, len(pattern)), []).append((pattern, target))

    def find(self, method: str, target: str) -> tuple[T, tuple[str, ...]]:
        """What answers, and what the stars stand for; paths that were found are remembered, ``REMEMBERED_MAX`` of them.

        Raises:
            HttpError: 404; 405 where another method would be answered.
        """
        found = self._found.get((method, target))
        if found is None:
            found = self._search(method, target)
            if len(self._found) < REMEMBERED_MAX:
                self._found[method, target] = found
        return found

    def _search(self, method: str, target: str) -> tuple[T, tuple[str, ...]]:
        """Compare with the patterns; see :meth:`find`."""
        path = target.partition("?")[0]
        segments = tuple(map(unquote, path.strip("/").split("/")))
        found = self._match("GET" if method == "HEAD" else method, segments)
        if found is not None:
            return found
        others = [verb for verb in VERBS if self._match(verb, segments) is not None]
        if others:
            raise HttpError(405, f"{path} takes {others[0]}")
        raise HttpError(404, f"{path} is no part of the Open Inference Protocol that is served here")

    def _match(self, method: str, segments: tuple[str, ...]) -> tuple[T, tuple[str, ...]] | None:
        for pattern, target in self._by_size.get((method, len(segments)), ()):
            pairs = tuple(zip(pattern, segments, strict=True))
            if all(wanted == found or (wanted == ANY and found) for wanted, found in pairs):
                return target, tuple(found for wanted, found in pairs if wanted == ANY)
        return None
