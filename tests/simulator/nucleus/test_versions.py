"""The requirement language, as a table and by its laws."""

import pytest
from hypothesis import given, strategies as st

from simulator.nucleus.errors import VersionRangeError
from simulator.nucleus.versions import Version, VersionRange

NUMBERS = st.tuples(*[st.integers(0, 9)] * 3)


@pytest.mark.parametrize(
    ("requirement", "inside", "outside"),
    [
        ("1.0.0", "1.0.0", "1.0.1"),
        ("=1.0.0", "1.0.0", "0.9.9"),
        (">=1.0.0 <2.0.0", "1.9.9", "2.0.0"),
        ("1.0.0 >=1.0.0", "1.0.0", "1.0.1"),
        ("> 1.0.0", "1.0.1", "1.0.0"),
        ("^1.2.0", "1.9.0", "2.0.0"),
        ("^0.2.0", "0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("~1.2.3", "1.2.9", "1.3.0"),
        ("<1.0.0 || >=2.0.0", "2.5.0", "1.5.0"),
        ("*", "0.0.0", None),
        ("", "7.0.0", None),
        (">=1.0.0-rc.1", "1.0.0-rc.2", "1.0.0-beta"),
    ],
)
def test_what_a_requirement_admits(requirement: str, inside: str, outside: str | None) -> None:
    assert inside in VersionRange.parse(requirement)
    assert outside is None or outside not in VersionRange.parse(requirement)


@pytest.mark.parametrize("text", ["1.0", "latest", ">=", "1.0.0 and up", "v1.0.0", ">=1.0.0, <2.0.0"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(VersionRangeError):
        VersionRange.parse(text)


@given(NUMBERS, NUMBERS)
def test_order_is_that_of_the_numbers(left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    assert (Version(left) < Version(right)) == (left < right)
    assert Version.parse(str(Version(left))) == Version(left)


@given(NUMBERS, NUMBERS)
def test_a_version_is_either_below_or_not_below(bound: tuple[int, int, int], version: tuple[int, int, int]) -> None:
    text = str(Version(version))
    assert (text in VersionRange.parse(f"<{Version(bound)}")) != (text in VersionRange.parse(f">={Version(bound)}"))
