"""The year as the demo replays it: half months of 2013, the length over which a station's window has enough records."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

YEAR = 2013
TRAINED_MONTHS = (1, 2)
"""What the first model is trained on; the replay begins with the month after."""

OBSERVED_UNTIL = date(YEAR, 12, 30)
"""The day after the last for which every station has whole days of observations."""


@dataclass(frozen=True, slots=True)
class Period:
    """``first`` inclusive, ``end`` exclusive."""

    first: date
    end: date

    @property
    def label(self) -> str:
        """ISO 8601 interval."""
        return f"{self.first.isoformat()}/{self.end.isoformat()}"

    @staticmethod
    def first_of(month: int) -> date:
        """The first day of a month."""
        return date(YEAR, month, 1)

    @property
    def ends_month(self) -> bool:
        """Whether the month is complete with it, so that its observations reach the data lake."""
        return self.end.day == 1


def half_months(first_month: int) -> Iterator[Period]:
    """From the first of a month to the end of the year."""
    for month in range(first_month, 13):
        start, middle = date(YEAR, month, 1), date(YEAR, month, 16)
        end = date(YEAR + month // 12, month % 12 + 1, 1)
        yield Period(start, middle)
        yield Period(middle, end)
