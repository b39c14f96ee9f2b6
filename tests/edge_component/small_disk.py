"""A real disk that is really full: a tmpfs of 600 kB, which takes root to mount."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLER = "filler"


@contextmanager
def mounted(at: Path) -> Iterator[Path]:
    """Mounted until the end of the block, at which nobody may use it any more."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)  # a process that a failed test left behind may be in there


def fill_up(disk: Path) -> None:
    """Take every block that is left; unlink ``FILLER`` to give them back."""
    with (disk / FILLER).open("ab", buffering=0) as filler:
        for chunk in (b"x" * 65_536, b"x" * 4_096):
            while True:
                try:
                    filler.write(chunk)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
