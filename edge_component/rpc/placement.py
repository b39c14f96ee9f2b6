"""Which thread answers a call: the one that read it, or one of the server's. Pure.

Answered where it was read, a call waits for no thread to wake; but the calls of one client then wait for each other. So it
depends on how this client asks, as its last calls show: one at a time, or several at once. Who has changed is found out:
at the first call that overlaps another, and after ``ALONE_COUNT`` in a row that do not.

Belongs to whichever thread reads the connection.
"""

OVERLAPS_MAX = 3
"""Requests in a row that were there already when they were waited for; one alone may be chance."""
ALONE_COUNT = 256


class Placement:
    """One connection's.

    Attributes:
        is_here: where the next call is answered, unless it shows otherwise.
    """

    def __init__(self) -> None:
        """One at a time, until it shows otherwise."""
        self.is_here = True
        self._alone_count = 0

    def place(self, open_count: int, overlaps_count: int, *, pipelined: bool) -> bool:
        """Whether a whole call is answered where it was read.

        Args:
            open_count: calls that are not answered, with this one.
            overlaps_count: see :class:`~edge_component.rpc.intake.Intake`.
            pipelined: it lay there while the one before it was answered.
        """
        alone = open_count == 1 and not pipelined and overlaps_count < OVERLAPS_MAX
        self._alone_count = self._alone_count + 1 if alone else 0
        if not alone:
            self.is_here = False
        elif self._alone_count >= ALONE_COUNT:
            self.is_here = True
        return self.is_here

    def took_long(self) -> None:
        """A call was answered here, and others might have waited for it."""
        self.is_here, self._alone_count = False, 0
