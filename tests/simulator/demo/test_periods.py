from datetime import date

from simulator.demo.periods import half_months


def test_half_months_tile_the_year_without_gap_or_overlap() -> None:
    periods = list(half_months(3))
    assert periods[0].first == date(2013, 3, 1)
    assert periods[-1].end == date(2014, 1, 1)
    assert [later.first for later in periods[1:]] == [earlier.end for earlier in periods[:-1]]
    assert [period.ends_month for period in periods[:4]] == [False, True, False, True]
    assert periods[0].label == "2013-03-01/2013-03-16"
