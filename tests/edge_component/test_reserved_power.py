"""A power cut in the middle of using a reserve, on paper: every disk that it may leave behind is built and gone on from.

What a process calls is written down, and from that each state that a file system may have kept: of the names, any beginning
of what was changed since the folder was last synced (ext4 and XFS keep their order); of each file's bytes, those last synced,
any that were written since, or the first half of the new before the rest of the old. A process that was killed leaves
its successor what was never synced, so that the walk covers both, one after the other.
"""

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_component.reserved import ReservedFile

OLD, NEW, NEXT = b"old " * 300, b"new! " * 300, b"next" * 400
NAME = "slots.json"


class Ends(BaseException):
    """The process is no more."""


@dataclass
class Seen:
    """What happened to a folder: changes of names, and contents of files by inode number, with what was synced."""

    names: dict[str, int]
    contents: dict[int, bytes]
    steps: list[tuple[str, ...] | tuple[str, int] | tuple[str, int, bytes]] = field(default_factory=list)

    def disks(self) -> Iterator[tuple[dict[str, int], dict[int, bytes]]]:
        """Every one that a power cut after any of the steps may leave."""
        for count in range(len(self.steps) + 1):
            yield from self._after(self.steps[:count])

    def _after(self, steps: list[object]) -> Iterator[tuple[dict[str, int], dict[int, bytes]]]:
        changes: list[tuple[str, ...]] = []
        synced_count = 0
        versions = {inode: [content] for inode, content in self.contents.items()}
        for step in steps:
            match step:
                case ("wrote", int(inode), bytes(content)):
                    versions.setdefault(inode, [b""]).append(content)
                case ("synced", int(inode)):
                    versions[inode] = versions.get(inode, [b""])[-1:]
                case ("folder synced",):
                    synced_count = len(changes)
                case _:
                    changes.append(step)  # type: ignore[arg-type]
        found = [(inode, list(_survivors(held))) for inode, held in versions.items()]
        for kept_count in range(synced_count, len(changes) + 1):
            names = dict(self.names)
            for change in changes[:kept_count]:
                _change(names, change)
            for choice in itertools.product(*(contents for _, contents in found)):
                yield names, dict(zip((inode for inode, _ in found), choice, strict=True))


def _survivors(versions: list[bytes]) -> set[bytes]:
    torn = versions[-1][: len(versions[-1]) // 2] + versions[0][len(versions[-1]) // 2 :]
    return {*versions, torn} if len(versions) > 1 else set(versions)


def _change(names: dict[str, int], change: tuple[str, ...]) -> None:
    match change:
        case ("renamed", source, target):
            if names.get(source) == names.get(target):
                return  # two names of one file: rename(2) does nothing
            names[target] = names.pop(source)
        case ("linked", source, target):
            names[target] = names[source]
        case ("unlinked", name):
            del names[name]


class Watched:
    """A folder on a full disk, whose changes are written down; the ``dies_at``-th of them is the process's last."""

    def __init__(self, folder: Path, patched: pytest.MonkeyPatch, dies_at: int = 0) -> None:
        self._dies_at = dies_at
        found = {path.name: path.stat().st_ino for path in folder.iterdir()}
        self.seen = Seen(found, {inode: (folder / name).read_bytes() for name, inode in found.items()})
        self._watch(patched, os, "write", self._wrote)
        self._watch(patched, os, "ftruncate", self._wrote)
        self._watch(patched, os, "fsync", self._synced)
        self._watch(patched, os, "link", lambda source, target: ("linked", source.name, target.name))
        self._watch(patched, Path, "replace", lambda source, target: ("renamed", source.name, target.name))
        self._watch(patched, Path, "unlink", lambda path, **_: ("unlinked", path.name))
        really_open = os.open

        def full(path: object, flags: int, *rest: int) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return really_open(path, flags, *rest)  # type: ignore[arg-type]

        patched.setattr(os, "open", full)

    def live_on(self) -> None:
        """The next process is not killed."""
        self._dies_at = 0

    def _watch(
        self, patched: pytest.MonkeyPatch, owner: object, name: str, describe: Callable[..., tuple[object, ...]]
    ) -> None:
        real = getattr(owner, name)

        def watched(*arguments: object, **named: object) -> object:
            was_there = name != "unlink" or arguments[0].exists()  # type: ignore[attr-defined]
            answer = real(*arguments, **named)
            if was_there:
                self.seen.steps.append(describe(*arguments, **named))  # type: ignore[arg-type]
                if len(self.seen.steps) == self._dies_at:
                    raise Ends
            return answer

        patched.setattr(owner, name, watched)

    @staticmethod
    def _wrote(descriptor: int, *_: object) -> tuple[object, ...]:
        return "wrote", os.fstat(descriptor).st_ino, Path(f"/proc/self/fd/{descriptor}").read_bytes()

    @staticmethod
    def _synced(descriptor: int) -> tuple[object, ...]:
        is_folder = Path(f"/proc/self/fd/{descriptor}").is_dir()
        return ("folder synced",) if is_folder else ("synced", os.fstat(descriptor).st_ino)


def build(folder: Path, names: dict[str, int], contents: dict[int, bytes]) -> None:
    folder.mkdir()
    first: dict[int, Path] = {}
    for name, inode in sorted(names.items()):
        if inode in first:
            os.link(first[inode], folder / name)
        else:
            first[inode] = folder / name
            (folder / name).write_bytes(contents[inode])


def goes_on(folder: Path, told: tuple[bytes, ...]) -> None:
    """The next start finds one of these, and on a disk that is still full the way back is open once more."""
    file = ReservedFile(folder / NAME)
    with pytest.MonkeyPatch.context() as patched:
        Watched(folder, patched)
        found = (folder / NAME).read_bytes()
        assert found in told
        file.reserve()
        assert (folder / NAME).read_bytes() == found
        file.replace(b"and back", may_use_reserve=True)
    assert (folder / NAME).read_bytes() == b"and back"


def made(folder: Path) -> ReservedFile:
    folder.mkdir()
    file = ReservedFile(folder / NAME)
    file.replace(OLD, may_use_reserve=False)
    return file


def test_whenever_the_power_fails_it_is_old_or_new_and_there_is_still_a_way_back(tmp_path: Path) -> None:
    file = made(tmp_path / "made")
    with pytest.MonkeyPatch.context() as patched:
        watched = Watched(tmp_path / "made", patched)
        file.replace(NEW, may_use_reserve=True)
    disks = list(watched.seen.disks())
    assert len(disks) > len(watched.seen.steps)
    for number, (names, contents) in enumerate(disks):
        build(tmp_path / str(number), names, contents)
        goes_on(tmp_path / str(number), (OLD, NEW))
    build(tmp_path / "told", *disks[-1])
    assert (tmp_path / "told" / NAME).read_bytes() == NEW, "who was told that it is there finds it"


def test_killed_and_used_again_and_then_the_power_fails(tmp_path: Path) -> None:
    """What the first process never synced is what the second one may write into: the content itself, as the disk has it."""
    for dies_at in range(1, 20):
        file = made(tmp_path / f"made {dies_at}")
        with pytest.MonkeyPatch.context() as patched:
            watched = Watched(tmp_path / f"made {dies_at}", patched, dies_at)
            try:
                file.replace(NEW, may_use_reserve=True)
                return
            except Ends:
                watched.live_on()
            again = ReservedFile(tmp_path / f"made {dies_at}" / NAME)
            again.reserve()
            again.replace(NEXT, may_use_reserve=True)
        for number, (names, contents) in enumerate(watched.seen.disks()):
            folder = tmp_path / f"{dies_at} {number}"
            build(folder, names, contents)
            goes_on(folder, (OLD, NEW, NEXT))
    pytest.fail("the walk does not end")
