"""The rules of health as a table; then what is repaired, how often, and when it is given up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cloud.fleet.desired import DeploymentRecord, Publication, Wanted, identified, parse_target, wanted_by_thing
from cloud.fleet.health import Claim, DeviceView, Difference, Serving, judge
from cloud.fleet.repair import GiveUp, Repair, RepairKey, RepairLimits, Tried, decide_repairs, forgettable
from edge_component.contracts.heartbeat import LEFT_OUT
from tests.cloud.fleet.samples import DIGEST, T0

COMPONENT = "com.edgewright.model.Weather"
RUNTIME = "com.edgewright.Runtime"
NOW = T0 + timedelta(seconds=100)
WANTED = Wanted(COMPONENT, "1.1.0", "dep-1", "weather", DIGEST)
OLD, NEW = Serving("1.0.0", "b" * 64, "serving"), Serving("1.1.0", DIGEST, "serving")


def view(**changes: object) -> DeviceView:
    fields = {
        "thing_name": "EWR", "heard_at": NOW, "runtime_version": "0.1.0", "health": "healthy", "reasons": (),
        "models": {"weather": NEW}, "wanted": {COMPONENT: WANTED}, "claims": {}, "installed": {},
    }  # fmt: skip
    return DeviceView(**{**fields, **changes})  # type: ignore[arg-type]


def claim(status: str, seconds_ago: float = 50) -> dict[str, Claim]:
    return {"dep-1": Claim(status, "why", NOW - timedelta(seconds=seconds_ago))}


OTHER_BYTES = Serving("1.1.0", "c" * 64, "serving")
CASES = [
    ("never heard", view(heard_at=None), "unheard"),
    ("silent", view(heard_at=NOW - timedelta(seconds=181)), "silent"),
    ("serves what is wanted", view(), "ok"),
    ("serves what is wanted, whatever Greengrass says", view(claims=claim("FAILED")), "ok"),
    ("no deployment of ours", view(wanted={}), "ok"),
    ("old one serves, no word yet", view(models={"weather": OLD}), "changing"),
    ("old one serves, in progress", view(models={"weather": OLD}, claims=claim("IN_PROGRESS")), "changing"),
    ("old one serves, just succeeded", view(models={"weather": OLD}, claims=claim("SUCCEEDED", 1)), "changing"),
    ("old one serves, SUCCEEDED long ago", view(models={"weather": OLD}, claims=claim("SUCCEEDED")), "diverged"),
    ("nothing serves, SUCCEEDED", view(models={}, claims=claim("SUCCEEDED")), "diverged"),
    ("other bytes of the version", view(models={"weather": OTHER_BYTES}, claims=claim("SUCCEEDED")), "diverged"),
    ("refused on the device", view(models={"weather": OLD}, claims=claim("FAILED")), "failed"),
    ("degraded", view(health="degraded", reasons=("Disk is full.",)), "degraded"),
    ("could not restore", view(models={"weather": replace(NEW, state="failed")}), "degraded"),
    (
        "runtime never upgraded",
        view(wanted={RUNTIME: Wanted(RUNTIME, "0.2.0", "dep-1")}, claims=claim("SUCCEEDED")),
        "diverged",
    ),
    (
        "the wanted runtime, whose record has its archive's digest",
        view(wanted={RUNTIME: Wanted(RUNTIME, "0.1.0", "dep-1", "", DIGEST)}, claims=claim("SUCCEEDED")),
        "ok",
    ),
    ("foreign component", view(wanted={"aws.greengrass.Cli": Wanted("aws.greengrass.Cli", "2", "dep-1")}), "ok"),
    (
        "no publication record: version by the component's last word",
        view(models={"weather": OLD}, wanted={COMPONENT: Wanted(COMPONENT, "1.0.0", "dep-1")}),
        "ok",
    ),
]


@pytest.mark.parametrize(("seen", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_rule_of_health(seen: DeviceView, status: str) -> None:
    verdict = judge(seen, NOW)
    assert verdict.status == status
    assert verdict.sentence.endswith(".")


def test_a_model_that_the_heartbeat_had_no_room_for_is_not_taken_for_missing() -> None:
    """More than some twenty models do not fit a publish; to deploy them all again would be no repair."""
    partial: dict[str, object] = {
        "health": "degraded", "reasons": (f"30 {LEFT_OUT}",), "claims": claim("SUCCEEDED")
    }  # fmt: skip
    other = {"other": Serving("1.0.0", DIGEST, "serving")}
    verdict = judge(view(models=other, **partial), NOW)
    assert (verdict.status, verdict.sentence, verdict.differences) == ("degraded", f"30 {LEFT_OUT}", ())
    assert judge(view(models={**other, "weather": OLD}, **partial), NOW).status == "diverged"


def test_a_false_success_is_named_with_what_serves() -> None:
    verdict = judge(view(models={"weather": OLD}, claims=claim("SUCCEEDED")), NOW)
    assert verdict.sentence == "Greengrass reports weather 1.1.0 as SUCCEEDED, but 1.0.0 serves."
    failed = judge(view(models={"weather": OLD}, claims=claim("FAILED")), NOW)
    assert failed.sentence == "weather 1.1.0 failed to deploy; 1.0.0 serves (why)."


def test_a_model_that_could_not_be_restored_is_not_said_to_serve() -> None:
    """A device whose disk had damaged both versions: it answered nobody, and was said to serve the older one."""
    for left in (replace(OLD, state="failed"), replace(OTHER_BYTES, state="failed")):
        verdict = judge(view(models={"weather": left}, claims=claim("SUCCEEDED")), NOW)
        assert (verdict.status, verdict.sentence) == (
            "diverged", "Greengrass reports weather 1.1.0 as SUCCEEDED, but nothing serves.",
        )  # fmt: skip


def test_a_model_that_was_not_published_for_the_devices_platform_is_said_to_be_that() -> None:
    publication = Publication(COMPONENT, "weather", "1.1.0", {"linux/aarch64": DIGEST})
    wanted = Wanted(COMPONENT, "1.1.0", "dep-1")

    def sentence(platform: str) -> str:
        here = {COMPONENT: identified(wanted, publication, platform)}
        return judge(view(models={"weather": OLD}, wanted=here, claims=claim("FAILED")), NOW).sentence

    assert "without a bundle for this device's platform" in sentence("linux/x86_64")
    assert sentence("linux/aarch64") == "weather 1.1.0 failed to deploy; 1.0.0 serves (why)."


SET = Wanted(RUNTIME, "0.1.0", "dep-1", configured={"/heartbeat_s": "aa", "/window_s": "bb"})


def test_a_runtime_that_is_not_as_configured_is_well_but_said_so() -> None:
    def sentence(configuration: dict[str, str] | None) -> str:
        verdict = judge(view(wanted={RUNTIME: SET}, configuration=configuration), NOW)
        assert verdict.status == "ok"
        return verdict.sentence

    assert sentence({"/heartbeat_s": "aa", "/window_s": "bb", "/ingest_rule": "cc"}) == "Serves what is wanted."
    assert sentence(None) == "Serves what is wanted.", "an older runtime does not tell"
    assert "is not what was set for it: /window_s. A device that joins later" in sentence({"/heartbeat_s": "aa"})
    assert "set for it: /heartbeat_s, /window_s." in sentence({"/heartbeat_s": "xx"})


def test_a_device_of_several_targets_is_wanted_as_all_of_them_have_configured_it() -> None:
    targets = [f"arn:aws:iot:r:1:thinggroup/{name}" for name in ("all", "ring")]
    records = [
        DeploymentRecord("d1", targets[0], "", {RUNTIME: "0.1.0"}, "ACTIVE", T0, configured={"/a": "1", "/b": "1"}),
        DeploymentRecord("d2", targets[1], "", {RUNTIME: "0.1.0"}, "ACTIVE", NOW, configured={"/b": "2"}),
    ]
    wanted = wanted_by_thing(records, dict.fromkeys(targets, ("EWR",)))
    assert wanted["EWR"][RUNTIME] == Wanted(RUNTIME, "0.1.0", "d2", configured={"/a": "1", "/b": "2"})


GONE = Wanted(COMPONENT, "0.0.1", "dep-1", "weather")
OTHER = Wanted("com.edgewright.model.Weather2", "1.1.0", "dep-1", "weather", DIGEST)
RETIRED = [
    ("serves on, no word yet", {"weather": OLD}, {}, "changing", "weather is being retired; 1.0.0 still serves."),
    ("serves on, SUCCEEDED", {"weather": OLD}, claim("SUCCEEDED"), "diverged",
     "Greengrass reports weather as retired, but 1.0.0 still serves."),
    ("serves on, FAILED", {"weather": OLD}, claim("FAILED"), "failed",
     "weather could not be retired; 1.0.0 still serves (why)."),
    ("gone", {}, claim("SUCCEEDED"), "ok", "Serves what is wanted. Retired here: weather."),
    ("gone, whatever Greengrass says", {}, claim("FAILED"), "ok", "Serves what is wanted. Retired here: weather."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("models", "claims", "status", "sentence"), [case[1:] for case in RETIRED], ids=[case[0] for case in RETIRED]
)
def test_a_retired_model_differs_as_long_as_it_serves(
    models: dict[str, Serving], claims: dict[str, Claim], status: str, sentence: str
) -> None:
    verdict = judge(view(models=models, claims=claims, wanted={COMPONENT: GONE}), NOW)
    assert (verdict.status, verdict.sentence) == (status, sentence)


def test_a_retired_component_says_nothing_of_a_name_that_another_has_taken_over() -> None:
    assert judge(view(wanted={COMPONENT: GONE, OTHER.component_name: OTHER}), NOW).status == "ok"


def test_a_removal_that_never_happened_is_repaired_and_given_up_in_its_own_words() -> None:
    verdict = judge(view(models={"weather": OLD}, claims=claim("SUCCEEDED"), wanted={COMPONENT: GONE}), NOW)
    (repair,) = decide_repairs({"EWR": verdict.differences}, TARGETS, {}, NOW)
    assert isinstance(repair, Repair)
    assert repair.sentence.endswith("because EWR never let go of the model.")
    tried = {repair.key: Tried(3, NOW - timedelta(seconds=60))}
    (given_up,) = decide_repairs({"EWR": verdict.differences}, TARGETS, tried, NOW)
    assert given_up.sentence.startswith("EWR still serves what was retired by com.edgewright.model.Weather 0.0.1 after")


KEY = RepairKey("arn:aws:iot:us-east-1:1:thinggroup/stations", COMPONENT, "1.1.0")
TARGETS = {"dep-1": KEY.target_arn}
DIVERGED = {name: (Difference("diverged", WANTED, "1.0.0", "It differs."),) for name in ("JFK", "EWR")}


def test_one_repair_for_all_devices_of_a_target() -> None:
    (step,) = decide_repairs(DIVERGED, TARGETS, {}, NOW)
    assert isinstance(step, Repair)
    assert (step.key, step.deployment_id, step.things, step.try_number) == (KEY, "dep-1", ("EWR", "JFK"), 1)


BOUNDS = [
    ("too soon", Tried(1, NOW - timedelta(seconds=59)), None),
    ("second try", Tried(1, NOW - timedelta(seconds=60)), Repair),
    ("last try", Tried(2, NOW - timedelta(seconds=60)), Repair),
    ("no more", Tried(3, NOW - timedelta(seconds=60)), GiveUp),
    ("no more, but wait for the last", Tried(3, NOW - timedelta(seconds=1)), None),
]


@pytest.mark.parametrize(("tried", "kind"), [case[1:] for case in BOUNDS], ids=[case[0] for case in BOUNDS])
def test_tries_are_bounded(tried: Tried, kind: type | None) -> None:
    steps = decide_repairs(DIVERGED, TARGETS, {KEY: tried}, NOW, RepairLimits(tries_max=3, pause_s=60))
    assert [type(step) for step in steps] == ([kind] if kind else [])


@pytest.mark.parametrize("kind", ["failed", "changing"])
def test_only_a_false_success_is_repaired(kind: str) -> None:
    assert decide_repairs({"EWR": (Difference(kind, WANTED, "1.0.0", "x"),)}, TARGETS, {}, NOW) == ()


def test_the_runtime_is_never_repaired_by_a_nonce_and_an_unknown_target_is_left() -> None:
    runtime = Difference("diverged", Wanted(RUNTIME, "0.2.0", "dep-1"), "0.1.0", "x")
    assert decide_repairs({"EWR": (runtime,)}, TARGETS, {}, NOW) == ()
    assert decide_repairs(DIVERGED, {}, {}, NOW) == ()


def test_a_count_starts_anew_only_long_after_nothing_differs() -> None:
    limits = RepairLimits(forget_after_s=3_600)
    recent, old = Tried(3, NOW - timedelta(seconds=3_599)), Tried(3, NOW - timedelta(seconds=3_601))
    assert forgettable({KEY: recent}, (), NOW, limits) == ()
    assert forgettable({KEY: old}, (), NOW, limits) == (KEY,)
    assert forgettable({KEY: old}, (KEY,), NOW, limits) == ()


def test_wanted_is_the_union_of_targets_and_the_later_deployment_wins() -> None:
    group, thing = "arn:aws:iot:r:1:thinggroup/stations", "arn:aws:iot:r:1:thing/EWR"
    records = [
        DeploymentRecord("d2", thing, "", {COMPONENT: "1.1.0"}, "ACTIVE", NOW),
        DeploymentRecord("d1", group, "", {COMPONENT: "1.0.0", RUNTIME: "0.1.0"}, "ACTIVE", T0),
    ]
    wanted = wanted_by_thing(records, {group: ("EWR", "JFK"), thing: ("EWR",)})
    assert wanted["EWR"][COMPONENT] == Wanted(COMPONENT, "1.1.0", "d2")
    assert wanted["EWR"][RUNTIME].deployment_id == "d1"
    assert wanted["JFK"][COMPONENT].version == "1.0.0"
    assert parse_target(group) == ("thinggroup", "stations")
    assert parse_target("arn:aws:s3:::x") == ("", "")


def test_a_publication_names_the_model_and_the_platforms_digest() -> None:
    publication = Publication(COMPONENT, "weather", "1.1.0", {"linux/x86_64": DIGEST})
    bare = Wanted(COMPONENT, "1.1.0", "d1")
    assert identified(bare, publication, "linux/x86_64") == replace(bare, model_name="weather", digest=DIGEST)
    assert identified(bare, publication, "linux/aarch64").digest == ""
    assert identified(bare, None, "linux/x86_64") == bare
