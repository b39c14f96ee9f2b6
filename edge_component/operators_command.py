"""The command ``edgewright-edge`` where no package manager has put it: a script in the runtime's work folder.

The failure this exists for: every remedy says ``edgewright-edge``, and on a core device nobody's path has it. The runtime's
sources lie in an artifact's folder and its packages in an environment, and both are others with each version; so each
start writes down where they are now.

Serving does not depend on it: a disk that does not take the script keeps the one before, or none.
"""

import logging
import shlex
import sys
from pathlib import Path

import edge_component
from edge_component.durable import replace_file

log = logging.getLogger(__name__)

NAME = "edgewright-edge"
MODE = 0o700
"""As who may use the admin socket: the component's user, and root."""


def leave_command(work_path: Path) -> None:
    """Put the script there, unless it is there already."""
    path = work_path / NAME
    content = script(work_path.absolute()).encode()
    try:
        if not path.is_file() or path.read_bytes() != content:
            replace_file(path, content, MODE)
    except OSError as error:
        log.warning("the command %s could not be written: %s", path, error)


def script(work_path: Path) -> str:
    """What it says: this interpreter, these sources, this work folder."""
    sources = Path(edge_component.__file__).parents[1]
    return (
        "#!/bin/sh\n"
        "# Written by the runtime at each start.\n"
        "export ORT_DISABLE_TELEMETRY=1\n"
        "export PYTHONDONTWRITEBYTECODE=1\n"  # root's files have no place in the component's folders
        f"export PYTHONPATH={shlex.quote(str(sources))}\n"
        f'exec {shlex.quote(sys.executable)} -m edge_component.cli --work {shlex.quote(str(work_path))} "$@"\n'
    )
