from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from simulator.aws.errors import AwsError
from simulator.aws.listing import page

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = {"name": "Name", "status": "Status", "answer": "Found"}


def entries(count: int) -> list[dict]:
    return [
        {
            "Name": f"job-{number}",
            "Status": "Failed" if number % 2 else "Completed",
            "CreationTime": START + timedelta(minutes=number),
            "LastModifiedTime": START + timedelta(hours=number),
        }
        for number in range(count)
    ]


@given(st.integers(0, 40), st.integers(1, 50), st.sampled_from(["Ascending", "Descending", None]))
def test_pages_are_the_whole_in_order_without_overlap(count, size, order):
    found, token = [], None
    while True:
        answer = page(entries(count), {"MaxResults": size, "NextToken": token, "SortOrder": order}, **NAMES)
        assert len(answer["Found"]) <= size
        found += answer["Found"]
        token = answer.get("NextToken")
        if token is None:
            break
    expected = entries(count)
    assert found == (expected if order == "Ascending" else expected[::-1])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"StatusEquals": "Failed"}, ["job-3", "job-1"]),
        ({"NameContains": "JOB-2"}, ["job-2"]),
        ({"CreationTimeAfter": START + timedelta(minutes=1)}, ["job-3", "job-2"]),
        ({"LastModifiedTimeBefore": START + timedelta(hours=2)}, ["job-1", "job-0"]),
        ({"SortBy": "Status", "SortOrder": "Ascending"}, ["job-0", "job-2", "job-1", "job-3"]),
        ({"SortBy": "Name"}, ["job-3", "job-2", "job-1", "job-0"]),
    ],
)
def test_filters_and_orders(parameters, expected):
    assert [entry["Name"] for entry in page(entries(4), parameters, **NAMES)["Found"]] == expected


def test_a_foreign_token_is_refused():
    with pytest.raises(AwsError, match="NextToken"):
        page(entries(1), {"NextToken": "x"}, **NAMES)
