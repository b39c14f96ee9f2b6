import json

from simulator.demo.summary import (
    DeviceOutcome,
    DriftOutcome,
    Predictions,
    Refusal,
    RetrainOutcome,
    Summary,
)


def finished() -> Summary:
    summary = Summary(predictions=Predictions(10, 0))
    summary.devices.append(DeviceOutcome("station-ewr", (41,), "weather", "1.1.0"))
    summary.drift.append(DriftOutcome("station-ewr", "2013-05-01/2013-05-16", "retrain", "dew point moved by D=0.41."))
    summary.retrain = RetrainOutcome("arn:aws:sagemaker:…", "log_loss", 0.41, 0.24, "1.1.0")
    summary.refused.append(Refusal("1.2.0", "station-ewr", "golden-mismatch: probability differs by 0.5"))
    summary.phases_s["train"] = 3.14159
    return summary


def test_document_holds_what_scripts_are_promised() -> None:
    document = json.loads(json.dumps(finished().to_document()))
    assert document["predictions"] == {"answered": 10, "failed": 0}
    assert document["devices"] == [
        {
            "thing_name": "station-ewr",
            "runtime_process_ids": [41],
            "serving": {"model": "weather", "version": "1.1.0"},
        }
    ]
    assert document["drift"][0]["decision"] == "retrain"
    assert document["retrain"]["before"] == 0.41
    assert document["refused"][0]["version"] == "1.2.0"
    assert document["phases_s"] == {"train": 3.1}


def test_holds_only_if_everything_was_shown() -> None:
    assert finished().holds()
    assert not Summary().holds()
    failed = finished()
    failed.predictions += Predictions(5, 1)
    assert not failed.holds()
    restarted = finished()
    restarted.devices[0] = DeviceOutcome("station-ewr", (41, 97), "weather", "1.1.0")
    assert not restarted.holds()
    worse = finished()
    worse.retrain = RetrainOutcome("arn", "log_loss", 0.2, 0.3, "1.1.0")
    assert not worse.holds()


def test_sentences_name_the_figures() -> None:
    summary = finished()
    summary.drift.insert(0, DriftOutcome("station-ewr", "2013-03-01/2013-03-16", "watch", "no reason to retrain."))
    text = "\n".join(summary.sentences())
    assert "2 windows were flagged; the one that asked for a retraining: dew point" in text
    assert "10 predictions answered, 0 failed." in text
    assert "one runtime process throughout (41)" in text
    assert "0.410 before, 0.240 after" in text
    assert "station-ewr: golden-mismatch" in text
