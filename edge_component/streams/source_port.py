"""What a stream asks of any source: to give samples until it is told to stop.

The failure this exists for: kinds of sources that import each other for the sake of a type. A new kind implements
:class:`Source` in a file of its own, and sources.py alone knows all kinds.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from edge_component.streams.samples import Sample

Offer = Callable[[Sample], None]
"""Takes one sample; whether that waits is the queue's business."""


class Source(Protocol):
    """Gives samples."""

    def run(self, offer: Offer, stopping: threading.Event) -> None:
        """Give samples until ``stopping`` is set; called again after a failure.

        Raises:
            HeldError: it cannot, for now.
        """
