"""Ctrl-C before the command has even been read."""

import subprocess
import sys
import tomllib

from cloud.settings import checkout_root

SCRIPT = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from cloud.cli.start import main
main()
"""


def test_ctrl_c_while_its_modules_are_read_is_no_traceback() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_the_command_begins_there() -> None:
    project = tomllib.loads((checkout_root() / "pyproject.toml").read_text())
    assert project["project"]["scripts"]["edgewright"] == "cloud.cli.start:main"
