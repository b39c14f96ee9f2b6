"""A file with a reserve: replaced on a disk that is really full, and old or new whatever call fails or is the last."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_component.reserved import RESERVE_BYTES_MIN, ReservedFile
from tests.edge_component.small_disk import FILLER, fill_up, mounted

OLD, NEW = b"old " * 300, b"new " * 300


def made(folder: Path) -> ReservedFile:
    file = ReservedFile(folder / "slots.json")
    file.replace(OLD, may_use_reserve=False)
    return file


def content(folder: Path) -> bytes:
    return (folder / "slots.json").read_bytes()


def test_on_a_full_disk_it_is_replaced_as_often_as_is_asked(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        file = made(disk)
        fill_up(disk)
        with pytest.raises(OSError, match="No space left"):
            file.replace(NEW, may_use_reserve=False)
        assert content(disk) == OLD
        for wanted in (NEW, OLD, NEW + b"longer", NEW + b"longer still", OLD):
            file.replace(wanted, may_use_reserve=True)
            fill_up(disk)  # whatever it gave back is gone at once
            assert content(disk) == wanted
            assert file.problem == "", "a smaller one is a reserve as well"
        with pytest.raises(OSError, match="No space left"):
            file.replace(bytes(RESERVE_BYTES_MIN * 2), may_use_reserve=True)
        assert content(disk) == OLD
        (disk / FILLER).unlink()
        file.reserve()
        assert (disk / "slots.json.reserve").stat().st_size == RESERVE_BYTES_MIN, "made good once there is room"


def test_the_reserve_grows_with_what_it_is_for(tmp_path: Path) -> None:
    file = made(tmp_path)
    assert (tmp_path / "slots.json.reserve").stat().st_size == RESERVE_BYTES_MIN
    file.replace(b"x" * RESERVE_BYTES_MIN, may_use_reserve=False)
    assert (tmp_path / "slots.json.reserve").stat().st_size == 2 * RESERVE_BYTES_MIN


def test_a_disk_that_was_full_before_there_was_a_reserve_is_told_of_until_it_gives_one(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        (disk / "slots.json").write_bytes(OLD)  # as a version without reserves left it
        fill_up(disk)
        file = ReservedFile(disk / "slots.json")
        file.reserve()
        assert file.problem == "slots.json has no reserve: No space left on device"
        with pytest.raises(OSError, match="No space left"):
            file.replace(NEW, may_use_reserve=True)
        (disk / FILLER).unlink()
        file.reserve()
        assert file.problem == ""
        fill_up(disk)
        file.replace(NEW, may_use_reserve=True)
        assert content(disk) == NEW


class Ends(BaseException):
    """The process is no more."""


CALLS = (
    (os, "write"), (os, "ftruncate"), (os, "fsync"), (os, "link"), (Path, "replace"), (Path, "unlink"), (os, "open"),
)  # fmt: skip


@pytest.mark.parametrize("end", [OSError(errno.EIO, "I/O error"), Ends()], ids=["fails", "is the last"])
@pytest.mark.parametrize(("owner", "name"), CALLS, ids=[name for _, name in CALLS])
def test_whichever_call_fails_or_is_the_last_it_is_old_or_new_and_goes_on(
    tmp_path: Path, owner: object, name: str, end: BaseException
) -> None:
    for at in range(1, 20):
        folder = tmp_path / str(at)
        folder.mkdir()
        file = made(folder)
        with pytest.MonkeyPatch.context() as patched:
            fill_and_strike(patched, owner, name, at, end)
            try:
                file.replace(NEW, may_use_reserve=True)
                was_told = True
            except (OSError, Ends):
                was_told = False
        assert content(folder) in ((NEW,) if was_told else (OLD, NEW))
        again = ReservedFile(folder / "slots.json")
        again.reserve()
        before = content(folder)
        assert before in (OLD, NEW)
        reserve = folder / "slots.json.reserve"
        assert (reserve.stat().st_nlink, reserve.stat().st_size) == (1, RESERVE_BYTES_MIN)
        with pytest.MonkeyPatch.context() as patched:
            fill_and_strike(patched)
            again.replace(b"next", may_use_reserve=True)
        assert content(folder) == b"next"
        if was_told and at > 3:
            return
    pytest.fail("the walk does not end")


def fill_and_strike(
    patched: pytest.MonkeyPatch, owner: object = None, name: str = "", at: int = 0, end: BaseException | None = None
) -> None:
    """No file can be made; and the ``at``-th call of one name, from now on, ends in ``end``."""
    really_open = os.open

    def full(path: object, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really_open(path, flags, *rest)  # type: ignore[arg-type]

    patched.setattr(os, "open", full)
    if owner is None:
        return
    real: Callable[..., object] = getattr(owner, name)
    count = 0

    def strike(*arguments: object, **named: object) -> object:
        nonlocal count
        count += 1
        if count == at:
            assert end is not None
            raise end
        return real(*arguments, **named)

    patched.setattr(owner, name, strike)


def test_a_reserve_that_is_the_content_itself_is_never_written_to(tmp_path: Path) -> None:
    """What a power cut between two renames may leave on a file system that does not keep their order."""
    file = made(tmp_path)
    reserve = tmp_path / "slots.json.reserve"
    reserve.unlink()
    os.link(tmp_path / "slots.json", reserve)
    with pytest.MonkeyPatch.context() as patched:
        fill_and_strike(patched)
        with pytest.raises(OSError, match="No space left"):
            file.replace(b"a part", may_use_reserve=True)
    assert content(tmp_path) == OLD
    file.reserve()
    assert content(tmp_path) == OLD
    assert not reserve.samefile(tmp_path / "slots.json")
