"""An ext4 in a file whose power can be cut; needs root, loop devices, and a mount namespace of its own.

``unshare --mount --propagation private python …``: else a container that starts meanwhile keeps the mount alive.
"""

import fcntl
import os
import struct
import subprocess
from pathlib import Path

SHUTDOWN_IOCTL = 0x8004587D
"""``EXT4_IOC_SHUTDOWN``."""
LOG_FLUSHED, LOG_LOST = 1, 2
"""What becomes of ext4's own journal: written before the end, or lost like everything that was not synced."""
APART = ("unshare", "--mount", "--propagation", "private")


class CutDisk:
    """Mounted on ``mount_point`` until :meth:`unmount`."""

    def __init__(self, folder: Path, size_bytes: int = 32 << 20) -> None:
        self.image, self.mount_point = folder / "disk.img", folder / "disk"
        self.mount_point.mkdir()
        with self.image.open("wb") as file:
            file.truncate(size_bytes)
        subprocess.run(["mkfs.ext4", "-qF", str(self.image)], check=True)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.mount_point)], check=True)

    def cut(self, log: int = LOG_LOST) -> None:
        """What was not synced is gone, and every call on the file system fails from now on."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        fcntl.ioctl(descriptor, SHUTDOWN_IOCTL, struct.pack("I", log))
        os.close(descriptor)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.mount_point)], check=True)
