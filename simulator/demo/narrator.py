"""What a person sees while the demo runs: one line per phase with its time, and the notes that matter beneath it.

On a terminal the running phase shows a spinner and a clock; into a file it prints plain lines.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Narrator:
    """Prints, and keeps how long each phase took. Used by one thread."""

    def __init__(self, console: Console, phases_s: dict[str, float]) -> None:
        """``phases_s`` is filled as phases end, seconds by phase name."""
        self._console = console
        self._phases_s = phases_s

    @contextmanager
    def phase(self, name: str, sentence: str) -> Iterator[None]:
        """Run one phase; its time is kept whether it ends well or not."""
        began = time.monotonic()
        try:
            if self._console.is_terminal:
                with self._console.status(sentence):
                    yield
            else:
                self._console.print(f"  … {sentence}", highlight=False, soft_wrap=True)
                yield
        except BaseException:
            self._console.print(f"[red]✗[/] {sentence}", highlight=False, soft_wrap=True)
            raise
        finally:
            self._phases_s[name] = time.monotonic() - began
        self._console.print(
            f"[green]✓[/] {sentence} [dim]{self._phases_s[name]:.1f} s[/]", highlight=False, soft_wrap=True
        )

    def note(self, sentence: str) -> None:
        """One line beneath the phase."""
        self._console.print(f"    {sentence}", highlight=False, markup=False, soft_wrap=True)
