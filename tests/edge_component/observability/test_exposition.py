"""The text format, read back by a reader of the tests' own; and the figures behind it."""

import math
import re

import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.heartbeat import ModelRef, OutboxState
from edge_component.observability.device_figures import DeviceFigures, Occupancy, families, read_process
from edge_component.observability.exposition import Family, Sample, exposition, histogram_samples, number
from edge_component.observability.service_totals import MODELS_MAX, ServiceTotals

LINE = re.compile(r"(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
UNESCAPED = {r"\\": "\\", r"\n": "\n", r"\"": '"'}
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\n|\\")*)"(?:,|$)')


def parse(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for line in text.decode().split("\n"):
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        assert match, line
        labels = match["labels"] or ""
        pairs = LABEL.findall(labels)
        assert sum(len(name) + len(value) + 3 for name, value in pairs) + max(len(pairs) - 1, 0) == len(labels), line
        values = frozenset((n, re.sub(r'\\[\\n"]', lambda m: UNESCAPED[m[0]], v)) for n, v in pairs)
        found[match["name"], values] = float(match["value"])
    return found


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(max_size=20)), st.floats(allow_nan=False))
def test_whatever_a_label_holds_is_read_back(labels: dict[str, str], value: float) -> None:
    text = exposition([Family("x_total", "counter", "help", [Sample(labels, value)])])
    assert parse(text) == {("x_total", frozenset(labels.items())): value}


def test_the_head_of_a_family_and_no_empty_family() -> None:
    text = exposition([Family("a", "gauge", "two\nlines", [Sample({}, 1.5)]), Family("b", "gauge", "none", [])])
    assert text == b"# HELP a two\\nlines\n# TYPE a gauge\na 1.5\n"


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4))
def test_buckets_are_cumulative_and_end_in_the_count(counts: list[int]) -> None:
    found = parse(exposition([Family("h", "histogram", "h", histogram_samples({}, (0.1, 0.2, 0.4), counts, 7.5))]))
    buckets = [found["h_bucket", frozenset({("le", bound)})] for bound in ("0.1", "0.2", "0.4", "+Inf")]
    assert buckets == [sum(counts[: end + 1]) for end in range(4)]
    assert (found["h_count", frozenset()], found["h_sum", frozenset()]) == (sum(counts), 7.5)


def test_a_name_that_no_scraper_reads_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        Family("requests-total", "counter", "", [Sample({}, 1)])
    with pytest.raises(AssertionError):
        Family("requests", "counter", "", [Sample({"a-b": "c"}, 1)])


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "3"), (0.5, "0.5"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (1e300, "1e+300")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


REF = ModelRef("weather", "1.2.0", "a" * 64)


def figures(totals: ServiceTotals) -> DeviceFigures:
    return DeviceFigures(
        "9.9.9",
        read_process(),
        {"weather": REF},
        totals.by_model(),
        {"weather": Occupancy(2, 5)},
        4096,
        OutboxState(3, 300, 1),
    )


def test_a_scrape_says_what_was_counted() -> None:
    totals = ServiceTotals()
    totals.counted(REF, [12.0, 30.0], ["", ""], ["", ""])
    totals.counted(REF, [5_000.0], ["run-failed"], ["r1"])
    totals.lost(REF, 4)
    found = parse(exposition(families(figures(totals))))
    model = {("model", "weather"), ("version", "1.2.0")}
    assert found["edgewright_requests_total", frozenset(model | {("outcome", "answered")})] == 2
    assert found["edgewright_requests_total", frozenset(model | {("outcome", "failed")})] == 1
    assert found["edgewright_request_errors_total", frozenset(model | {("code", "run-failed")})] == 1
    assert found["edgewright_request_seconds_count", frozenset(model)] == 3
    assert found["edgewright_request_seconds_sum", frozenset(model)] == pytest.approx(0.005042)
    assert found["edgewright_request_seconds_bucket", frozenset(model | {("le", "1e-05")})] == 0
    assert found["edgewright_request_seconds_bucket", frozenset(model | {("le", "4e-05")})] == 2
    assert found["edgewright_requests_uncounted_total", frozenset(model)] == 4
    assert found["edgewright_requests_waiting", frozenset({("model", "weather")})] == 5
    assert found["edgewright_model_serving_info", frozenset(model | {("digest", "a" * 64)})] == 1
    assert found["edgewright_outbox_dropped_total", frozenset()] == 1


def test_the_process_is_read_from_the_kernel() -> None:
    process = read_process()
    assert process.resident_bytes > 1_000_000
    assert process.descriptors_count >= 3
    assert process.threads_count >= 1
    assert process.started_s > 1_600_000_000


def test_models_that_nobody_asks_for_any_more_are_forgotten() -> None:
    totals = ServiceTotals()
    refs = [ModelRef("m", f"1.0.{number}", f"{number:064x}") for number in range(MODELS_MAX + 1)]
    for ref in refs:
        totals.counted(ref, [1.0], [""], [""])
        totals.counted(refs[0], [1.0], [""], [""])
    assert len(totals.by_model()) == MODELS_MAX
    assert refs[0] in totals.by_model()
    assert refs[1] not in totals.by_model()
