"""Every answer has the documented shape, every error is a problem document, every page comes once and in order."""

import re
from typing import Any

import httpx
import pytest
from hypothesis import given, strategies as st

from cloud.api import schemas
from cloud.api.app import create_app
from cloud.api.problems import MEDIA_TYPE, Problem
from cloud.api.server import ApiServer
from cloud.fleet.cursors import InvalidCursorError, decode_cursor, encode_cursor
from cloud.fleet.database import Database
from cloud.fleet.facts import HeartbeatFact
from cloud.fleet.queries import DeviceFilters, Queries, device_query
from cloud.fleet.store import SqliteFactSink
from tests.cloud.fleet.samples import heartbeat_fact

SHAPES = [
    ("/v1/devices", schemas.DevicePage),
    ("/v1/devices/EWR", schemas.DeviceDetail),
    ("/v1/devices/SWF", schemas.DeviceDetail),
    ("/v1/models", schemas.ModelPage),
    ("/v1/deployments", schemas.DeploymentPage),
    ("/v1/events", schemas.EventPage),
    ("/v1/drift", schemas.DriftPage),
    ("/v1/store", schemas.Store),
    ("/healthz", schemas.Healthz),
]


def get(client: httpx.Client, path: str, status: int = 200) -> Any:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(("path", "shape"), SHAPES, ids=[path for path, _ in SHAPES])
def test_answers_have_the_documented_shape(client: httpx.Client, path: str, shape: type[schemas.Strict]) -> None:
    document = get(client, path)
    shape.model_validate(document)
    assert document.get("items", [1])


def test_a_device_says_what_it_truly_serves_and_what_is_wanted(client: httpx.Client) -> None:
    device = get(client, "/v1/devices/LGA")
    assert device["status"] == "diverged"
    assert device["status_sentence"] == "Greengrass reports weather 1.1.0 as SUCCEEDED, but 1.0.0 serves."
    assert [model["version"] for model in device["models"]] == ["1.0.0"]
    assert [(one["version"], one["refused_version"]) for one in device["wanted"]] == [("1.1.0", "1.2.0")]
    assert device["installed"] == {"com.edgewright.model.Weather": "1.1.0"}
    assert device["deployments"][0]["status"] == "SUCCEEDED"


FILTERS = [
    ("", ["EWR", "JFK", "LGA", "SWF"]),
    ("?status=ok", ["JFK"]),
    ("?status=failed", ["EWR"]),
    ("?model=weather", ["EWR", "JFK", "LGA"]),
    ("?model=weather&version=1.0.0", ["EWR", "LGA"]),
    ("?version=1.1.0", ["JFK"]),
    ("?version=1.0.0&status=diverged", ["LGA"]),
    ("?group=stations&status=unheard", ["SWF"]),
    ("?group=stations&model=weather&version=1.0.0&status=failed", ["EWR"]),
    ("?group=nowhere", []),
]


@pytest.mark.parametrize(("query", "names"), FILTERS, ids=[query or "all" for query, _ in FILTERS])
def test_filters_combine_and_page_by_page_is_the_same(client: httpx.Client, query: str, names: list[str]) -> None:
    assert [device["thing_name"] for device in get(client, f"/v1/devices{query}")["items"]] == names
    found, cursor, glue = list[str](), "", "&" if query else "?"
    for _ in range(len(names) + 1):
        page = get(client, f"/v1/devices{query}{glue}limit=1{cursor}")
        found += [device["thing_name"] for device in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == names


@pytest.mark.parametrize("path", ["/v1/events", "/v1/drift", "/v1/models", "/v1/deployments"])
def test_histories_page_without_loss_or_repetition(client: httpx.Client, path: str) -> None:
    whole, pieces, cursor = get(client, f"{path}?limit=500")["items"], list[Any](), ""
    while True:
        page = get(client, f"{path}?limit=1{cursor}")
        pieces += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert pieces == whole


def test_histories_filter(client: httpx.Client) -> None:
    assert {event["kind"] for event in get(client, "/v1/events?kind=activation")["items"]} == {"activation"}
    assert {event["thing_name"] for event in get(client, "/v1/events?thing_name=JFK")["items"]} == {"JFK"}
    (alarm,) = get(client, "/v1/drift?level=alarm&thing_name=EWR")["items"]
    assert alarm["action"] == "retrain"
    assert alarm["columns"][0]["name"] == "f1"
    assert get(client, "/v1/drift?model=other")["items"] == []
    models = {model["version"]: model for model in get(client, "/v1/models")["items"]}
    assert (models["1.0.0"]["serving_count"], models["1.0.0"]["is_retrained"]) == (2, True)
    assert models["1.1.0"]["wanted_count"] == 4


BAD = [
    ("/nowhere", 404, "not-found"),
    ("/v1/devices/nobody", 404, "device-unknown"),
    ("/v1/devices?limit=0", 422, "invalid-request"),
    ("/v1/devices?limit=501", 422, "invalid-request"),
    ("/v1/devices?limit=many", 422, "invalid-request"),
    ("/v1/devices?limit=true", 422, "invalid-request"),
    ("/v1/devices?colour=red", 422, "invalid-request"),
    ("/v1/devices?status=happy", 422, "invalid-request"),
    ("/v1/events?kind=birthday", 422, "invalid-request"),
    ("/v1/devices?cursor=", 422, "invalid-request"),
    ("/v1/devices?cursor=%21%21", 400, "invalid-cursor"),
    ("/v1/devices?cursor=" + encode_cursor((7,)), 400, "invalid-cursor"),
    ("/v1/events?cursor=" + encode_cursor(("EWR",)), 400, "invalid-cursor"),
    ("/v1/events?cursor=" + encode_cursor((2**70,)), 400, "invalid-cursor"),
    ("/v1/deployments?cursor=" + encode_cursor((1,)), 400, "invalid-cursor"),
    ("/v1/devices/EWR?verbose=1", 422, "invalid-request"),
    ("/healthz?x=1", 422, "invalid-request"),
    ("/?status=x&y=1", 422, "invalid-request"),
]


@pytest.mark.parametrize(("path", "status", "code"), BAD, ids=[path for path, _, _ in BAD])
def test_every_error_is_a_problem_document(client: httpx.Client, path: str, status: int, code: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    problem = Problem.model_validate(answer.json())
    assert problem.type == f"urn:edgewright:problem:{code}"
    assert problem.status == status
    assert problem.instance == path.partition("?")[0]
    assert problem.detail


def test_a_wrong_method_is_a_problem_document_that_says_what_is_allowed(client: httpx.Client) -> None:
    answer = client.post("/v1/devices")
    assert (answer.status_code, answer.headers["content-type"]) == (405, MEDIA_TYPE)
    assert answer.headers["allow"] == "GET"


def test_a_store_that_is_away_is_503(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud.fleet.database import StoreUnavailableError

    def away(*_: object) -> None:
        raise StoreUnavailableError("disk gone", "Bring it back.")

    monkeypatch.setattr(Queries, "devices", away)
    problem = Problem.model_validate(get(client, "/v1/devices", 503))
    assert (problem.detail, problem.remedy) == ("disk gone", "Bring it back.")
    monkeypatch.setattr(Queries, "devices", lambda *_: 1 / 0)
    assert get(client, "/v1/devices", 500)["title"] == "Internal Server Error"


def test_openapi_documents_every_error_as_a_problem(client: httpx.Client) -> None:
    schema = get(client, "/openapi.json")
    assert "Problem" in schema["components"]["schemas"]
    for path, methods in schema["paths"].items():
        responses = methods["get"]["responses"]
        assert "200" in responses
        assert {"422", "503"} <= set(responses), path
        for status, response in responses.items():
            if status != "200":
                assert list(response["content"]) == [MEDIA_TYPE], (path, status)
    parameters = {one["name"]: one for one in schema["paths"]["/v1/devices"]["get"]["parameters"]}
    assert parameters["limit"]["schema"]["maximum"] == 500


def test_healthz_tells_of_loops_in_trouble(database: Database) -> None:
    states = [{"name": "ingest", "trouble": "queue is away"}]
    app = create_app(database, loops=lambda: states)
    with ApiServer(app) as server, httpx.Client(base_url=server.url) as client:
        document = get(client, "/healthz")
    assert (document["status"], document["loops"]) == ("degraded", states)
    assert document["counters"]["stored"] > 0


KEYS = st.tuples(st.text(max_size=30), st.integers(0, 2**63 - 1))


@given(KEYS)
def test_cursors_round_trip(key: tuple[str, int]) -> None:
    assert decode_cursor(encode_cursor(key), [str, int]) == key


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        assert len(decode_cursor(text, [str])) == 1
    except InvalidCursorError:
        return


@pytest.mark.parametrize(
    "filters",
    [
        DeviceFilters(),
        DeviceFilters(status="ok"),
        DeviceFilters(model="m"),
        DeviceFilters(version="1.0.0"),
        DeviceFilters(model="m", version="1.0.0", status="ok", group="g"),
        DeviceFilters(group="g", status="ok"),
    ],
)
def test_no_page_of_devices_sorts_or_scans(database: Database, filters: DeviceFilters) -> None:
    query, values = device_query(filters, "a", 51)
    with database.read() as connection:
        plan = " / ".join(row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values))
    assert "TEMP B-TREE" not in plan, plan
    assert "SCAN d" not in plan, plan


def test_the_page_shows_the_truth_and_asks_nobody_else(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    text = answer.text
    for word in (
        "EWR",
        "JFK",
        "diverged",
        "1.1.0",
        "Retrain.",
        "golden-mismatch",
        "20 s ago",
        "1.2.0 was refused",
        "stations that tried it",
    ):
        assert word in text, word
    assert "FAILED_<wbr>ROLLBACK_<wbr>NOT_<wbr>REQUESTED" in text, "a long word may be folded"
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_every_column_has_a_heading_also_where_a_phone_stacks_them(client: httpx.Client) -> None:
    text = client.get("/").text
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        headings = re.findall(r"<th>(.*?)</th>", table)
        assert len(headings) >= 5
        assert all(headings)
        labels = set(re.findall(r'data-label="(.*?)"', table))
        assert labels
        assert labels <= set(headings)


def test_the_page_escapes_what_devices_say(tmp_path: Any) -> None:
    database = Database(tmp_path / "x.db")
    fact = heartbeat_fact(1)
    evil = "<img src=x onerror=alert(1)>"
    beats = [HeartbeatFact(fact.origin, type(fact.heartbeat)(**{
        name: getattr(fact.heartbeat, name) for name in fact.heartbeat.__slots__ if name != "platform"
    }, platform=evil))]  # fmt: skip
    SqliteFactSink(database).commit(beats)
    with ApiServer(create_app(database)) as server, httpx.Client(base_url=server.url) as client:
        text = client.get("/").text
    database.close()
    assert evil not in text
    assert "&lt;img" in text
