"""Durable writing: the one place that knows write, fsync, rename, fsync the directory.

The failure this exists for: a power cut between two writes that leaves half a file, or a file whose name came back
without its bytes. After :func:`replace_file` or :func:`publish_directory` returns, the new content survives a power cut;
if either dies half-way, the old content is what is found. Rename without the two fsyncs gives neither on ext4
(found by cutting power on a loop mount; ``kill -9`` alone never shows it).

It is not a store of anything: names and meaning belong to the callers. Functions hold no state and may be called from
any thread; two writers of the same path must exclude each other themselves. ``OSError`` passes through: each caller
wraps it with what it was doing.
"""

import os
import shutil
from pathlib import Path

FILE_MODE = 0o600


def replace_file(path: Path, content: bytes, mode: int = FILE_MODE) -> None:
    """Give ``path`` this content, atomically and durably; its folder must exist.

    Raises:
        OSError: the disk refused; ``path`` still has its old content.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        write_new_file(beside, content, mode)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_new_file(path: Path, content: bytes, mode: int = FILE_MODE) -> None:
    """Write and fsync a file; not atomic, so only for names that nobody reads yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_directory(staged: Path, final: Path) -> None:
    """Move a folder whose files are all fsynced to its final name, durably. ``final`` must not exist, or be empty.

    Raises:
        OSError: the disk refused; ``final`` either is not there or is whole.
    """
    sync_directory(staged)
    staged.rename(final)
    sync_directory(final.parent)
    if staged.parent != final.parent:
        sync_directory(staged.parent)


def remove_directory(path: Path, trash: Path) -> None:
    """Take a folder away: out of sight first (one rename), then file by file, so that it is never seen half-empty.

    What an earlier removal could not take away is in ``trash`` still, perhaps, and goes first.
    """
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    sync_directory(path.parent)
    shutil.rmtree(trash, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
