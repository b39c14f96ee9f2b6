from datetime import UTC, datetime, timedelta

import pytest

from simulator.aws.job_log import EVENTS_PER_CALL_MAX, JobLog, Metric, MetricScan

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(seconds=5)


def test_the_last_value_of_each_metric_counts():
    scan = MetricScan([{"Name": "loss", "Regex": "loss=([0-9.e+-]+)"}, {"Name": "auc", "Regex": "auc: (.*?);"}])
    scan.line("epoch 1 loss=0.9 auc: 0.5;", AT)
    scan.line("epoch 2 loss=2.5e-1 loss=0.125", LATER)
    scan.line("auc: none;", LATER)
    assert scan.final() == (Metric("loss", 0.125, LATER), Metric("auc", 0.5, AT))


def test_a_metric_that_never_came_is_left_out():
    assert MetricScan([{"Name": "loss", "Regex": "loss=(.*)"}]).final() == ()


@pytest.mark.parametrize(("regex", "problem"), [("([", "no pattern"), ("loss=.*", "no group")])
def test_a_definition_that_cannot_be_used_is_named(regex, problem):
    with pytest.raises(ValueError, match=f"metric loss.*{problem}"):
        MetricScan([{"Name": "loss", "Regex": regex}])


def test_lines_reach_cloudwatch_in_batches_and_in_order(client):
    logs = client("logs")
    log = JobLog(logs, "/test/jobs", "job/algo-1")
    now = datetime.now(UTC)
    for number in range(EVENTS_PER_CALL_MAX + 5):
        log.line(str(number), now)
    log.flush()
    log.line("", now)
    log.flush()
    log.flush()
    found, token = [], None
    while True:
        answer = logs.get_log_events(
            logGroupName="/test/jobs",
            logStreamName="job/algo-1",
            startFromHead=True,
            **({"nextToken": token} if token else {}),
        )
        found += [event["message"] for event in answer["events"]]
        if token == answer["nextForwardToken"]:
            break
        token = answer["nextForwardToken"]
    assert found == [*map(str, range(EVENTS_PER_CALL_MAX + 5)), " "]
    JobLog(logs, "/test/jobs", "another").flush()
    assert len(logs.describe_log_streams(logGroupName="/test/jobs")["logStreams"]) == 1
