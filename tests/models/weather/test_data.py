from datetime import UTC, datetime
from pathlib import Path

import data
import numpy as np
import pytest

HEAD = ",".join(data.COLUMNS)


def station(visibility: list[float], hours: list[int] | None = None) -> data.Observations:
    sensors = np.zeros((len(visibility), len(data.SENSORS)), np.float32)
    sensors[:, data.SENSORS.index("visib")] = visibility
    sensors[:, 0] = np.arange(len(visibility)) ** 2
    return data.Observations("EWR", np.array(hours or range(len(visibility)), np.int64), sensors)


def test_the_package_holds_a_year_of_three_stations(stations: list[data.Observations]) -> None:
    assert [one.station for one in stations] == list(data.STATIONS)
    assert sum(len(one.hours) for one in stations) == 26_115
    assert all((np.diff(one.hours) > 0).all() for one in stations)
    missing = np.isnan(np.concatenate([one.sensors for one in stations])).mean(axis=0)
    assert missing[data.SENSORS.index("wind_gust")] == pytest.approx(0.796, abs=0.001)
    assert missing[data.SENSORS.index("pressure")] == pytest.approx(0.104, abs=0.001)


def test_a_label_is_the_next_hours_visibility() -> None:
    found = data.examples(station([10, 9, 10, 10]))
    assert found.label[:3].tolist() == [1, 0, 0]
    assert np.isnan(found.label[3])
    assert found.is_low_now.tolist() == [0, 1, 0, 0]
    assert len(found.labelled()) == 3


def test_changes_look_three_hours_back_and_never_across_a_gap() -> None:
    found = data.examples(station([10] * 6, hours=[0, 1, 2, 3, 5, 8]))
    change = found.features[:, data.FEATURES.index("temp_change_3h")]
    assert np.isnan(change[:3]).all()
    assert change[3] == 9 - 0  # hour 3 against hour 0
    assert change[4] == 16 - 4  # hour 5 against hour 2
    assert change[5] == 25 - 16  # hour 8 against hour 5
    assert np.isnan(found.label[[3, 4, 5]]).all()


def test_the_lake_gives_back_what_was_written(tmp_path: Path, stations: list[data.Observations]) -> None:
    year = datetime(2012, 1, 1, tzinfo=UTC), datetime(2015, 1, 1, tzinfo=UTC)
    paths = data.write_lake(tmp_path, stations, *year)
    assert len(paths) == 36
    for before, after in zip(stations, data.read_lake(tmp_path), strict=True):
        assert before.station == after.station
        np.testing.assert_array_equal(before.hours, after.hours)
        np.testing.assert_array_equal(before.sensors, after.sensors)


def test_the_lake_ends_before_its_last_day(tmp_path: Path, stations: list[data.Observations]) -> None:
    data.write_lake(tmp_path, stations[:1], datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 2, 3, tzinfo=UTC))
    (only,) = data.read_lake(tmp_path)
    assert len(only.hours) == 48
    assert data.moment_of(int(only.hours[-1])) == datetime(2013, 2, 2, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("station,at\nEWR,2013-01-01\n", "lacks the column"),
        (f"{HEAD}\nEWR,yesterday{',1' * 9}\n", "line 2: 'yesterday' is not a day"),
        (f"{HEAD}\nEWR,2013-01-01{',1' * 8},much\n", "line 2: could not convert"),
        (f"{HEAD}\nEWR,2013-01-01,1\n", "line 2"),
        (f"{HEAD}\n", "holds no observation"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "EWR.csv").write_text(text)
    with pytest.raises(data.ObservationError, match=sentence):
        data.read_lake(tmp_path)


def test_an_empty_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(data.ObservationError, match="no observation file"):
        data.read_lake(tmp_path)
