"""The configuration that the nucleus last told, kept for the start at which it tells nothing.

The failure this exists for: after a power cut runtime and nucleus start together, the nucleus needs longer than the models
may wait, and the device comes up with defaults: its other doors closed, its group shut out, until somebody restarts it,
since most fields hold from the start only. So what was told is written down, and used until it is told anew.

It interprets nothing (config.py does) and waits for nobody. One writer: the nucleus's thread, or before it the main one.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_component.contracts.codec import Document
from edge_component.contracts.errors import ContractError
from edge_component.durable import replace_file
from edge_component.sealed import seal, unseal

log = logging.getLogger(__name__)

FILE = "configuration.json"
BYTES_MAX = 65_536


class LastConfiguration:
    """One file in the work folder; whatever happens to it, the runtime starts."""

    def __init__(self, work_path: Path) -> None:
        """Address the file."""
        self._path = work_path / FILE
        self._kept: Document | None = None

    def read(self) -> Document | None:
        """What was last told; ``None`` if nothing ever was, or if it cannot be read."""
        try:
            self._kept = unseal(self._path.read_bytes(), BYTES_MAX)
        except FileNotFoundError:
            return None
        except (OSError, ContractError) as error:
            log.warning("%s cannot be read: %s", FILE, error)
            return None
        return self._kept

    def keep(self, document: Mapping[str, Any]) -> None:
        """Write down what was told; failing is logged, since only a later start depends on it."""
        if document == self._kept:
            return
        try:
            content = seal(document)
            unseal(content, BYTES_MAX)  # what could not be read again is not kept
            replace_file(self._path, content)
        except (OSError, ContractError) as error:
            log.warning("the configuration could not be written down for the next start: %s", error)
        else:
            self._kept = dict(document)
