"""Versions with other tensors: told by the names that differ, given no caller of the others, and holding up no deployment."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.contracts.routes import Arm, ModelRules, RouteTable, ShadowRule, StatePair
from edge_component.errors import RouteError, StoreDamagedError
from edge_component.inference.likeness import unlike
from edge_component.inference.router import Loaded, Router
from edge_component.inference.routing import OTHER_TENSORS, Routing
from edge_component.inference.versions import Mirror, Version
from tests.edge_component.inference.test_residents import FakeSession, ref
from tests.edge_component.inference.test_session import MANIFEST

NO_RULES = ModelRules()
HALVES = ModelRules(split=(Arm("active", 1), Arm("previous", 1)))
SHADOWED = ModelRules(shadow=ShadowRule("previous", 1.0))
X, Y = MANIFEST.inputs[0], MANIFEST.outputs[0]
WIDER = replace(MANIFEST, inputs=(replace(X, shape=(-1, 4)),), version="1.1.0")
MORE = replace(MANIFEST, outputs=(Y, replace(Y, name="z")), version="1.1.0")

specs = st.lists(
    st.builds(
        TensorSpec,
        st.sampled_from("abc"),
        st.sampled_from(["float32", "int8"]),
        st.lists(st.sampled_from([-1, 1, 3]), max_size=2).map(tuple),
    ),
    max_size=3,
    unique_by=lambda spec: spec.name,
).map(tuple)
manifests = st.builds(lambda inputs, outputs: replace(MANIFEST, inputs=inputs, outputs=outputs), specs, specs)


@given(manifests, manifests)
def test_it_is_the_same_both_ways_round_and_a_version_is_like_itself(one: Manifest, other: Manifest) -> None:
    assert bool(unlike(one, other, NO_RULES)) is bool(unlike(other, one, NO_RULES))
    assert not unlike(one, replace(one, version="2.0.0", inputs=one.inputs[::-1], outputs=one.outputs[::-1]), NO_RULES)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (WIDER, "input 'x' is float32 [-1, 3] in 1.0.0, float32 [-1, 4] in 1.1.0"),
        (MORE, "output 'z' is not there in 1.0.0, float32 [-1, 3] in 1.1.0"),
        (replace(WIDER, inputs=(replace(X, shape=(1, 3)),)), "input 'x' is float32 [-1, 3] in 1.0.0, float32 [1, 3] in 1.1.0"),
        (replace(WIDER, inputs=(replace(X, dtype="int8"),)), "input 'x' is float32 [-1, 3] in 1.0.0, int8 [-1, 3] in 1.1.0"),
        (replace(WIDER, inputs=()), "input 'x' is float32 [-1, 3] in 1.0.0, not there in 1.1.0"),
        (replace(MORE, outputs=(replace(Y, shape=(5, 3)),)), ""),
        (replace(MORE, outputs=(replace(Y, shape=(-1,)),)), "output 'y' is float32 [-1, 3] in 1.0.0, float32 [-1] in 1.1.0"),
    ],
)  # fmt: skip
def test_what_differs_is_named(other: Manifest, says: str) -> None:
    assert unlike(MANIFEST, other, NO_RULES) == says


def test_a_sentence_stays_short_whatever_differs() -> None:
    many = replace(MANIFEST, inputs=tuple(replace(X, name=f"{number}" * 500) for number in range(100)))
    assert unlike(MANIFEST, many, NO_RULES).endswith("; and 98 more")
    assert len(unlike(MANIFEST, many, NO_RULES)) < 500


def test_what_is_carried_is_each_versions_own() -> None:
    rules = ModelRules(states=(StatePair("state", "stateN"),))
    some, others = (
        replace(
            MANIFEST,
            inputs=(X, TensorSpec("state", "float32", (1, size))),
            outputs=(Y, TensorSpec("stateN", "float32", (1, size))),
        )
        for size in (16, 32)
    )
    assert "'state'" in unlike(some, others, NO_RULES)
    assert unlike(some, others, rules) == ""


class Mirroring:
    """Every pair of versions that the router wants to compare."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def detour(self, *_: object) -> None:
        return None

    def mirror(self, answering: object, rule: ShadowRule, shadow: Version, wake: object) -> Mirror | None:
        del rule, wake
        self.pairs.append((answering.ref.version, shadow.ref.version))  # type: ignore[attr-defined]
        return None


class Device:
    """A router over versions with manifests of their own."""

    def __init__(self, folder: Path, **manifests: Manifest) -> None:
        self.manifests = {name.replace("_", ".")[1:]: manifest for name, manifest in manifests.items()}
        self.mirroring = Mirroring()
        self.router = Router(equipment=self.mirroring)
        self.router.load_with(self)
        self.routing = Routing(folder, self.router)
        self.is_damaged = False

    def load(self, found: ModelRef) -> Loaded:
        if self.is_damaged:
            raise StoreDamagedError("gone")
        return Loaded(self.manifests[found.version], FakeSession())  # type: ignore[arg-type]

    def needed_bytes(self, _: ModelRef) -> int:
        return 0

    def activate(self, *versions: str) -> None:
        """The first one, with the others kept."""
        refs = tuple(map(ref, versions))
        self.router.hold("m", refs)
        loaded = self.load(refs[0])
        self.router.switch(refs[0], loaded.manifest, loaded.session)

    def answering(self) -> set[str]:
        return {self.router.route("m").resolve(str(key)).ref.version for key in range(40)}


def device(folder: Path) -> Device:
    """1.1.0 takes something else than 1.0.0; 1.2.0 takes what 1.1.0 does, and gives more."""
    given = (*WIDER.outputs, replace(Y, name="z"))
    return Device(folder, v1_0_0=MANIFEST, v1_1_0=WIDER, v1_2_0=replace(WIDER, outputs=given, version="1.2.0"))


@pytest.mark.parametrize("rules", [HALVES, SHADOWED])
def test_a_rule_over_versions_with_other_tensors_is_refused(tmp_path: Path, rules: ModelRules) -> None:
    """Though one of them has never been loaded."""
    found = device(tmp_path)
    found.activate("1.1.0", "1.0.0")
    with pytest.raises(
        RouteError, match=r"m: previous has other tensors .*'x' is float32 \[-1, 4\] in 1\.1\.0"
    ) as refusal:
        found.routing.set(RouteTable(models={"m": rules}))
    assert refusal.value.remedy == OTHER_TENSORS
    assert found.routing.table == RouteTable()
    assert found.answering() == {"1.1.0"}
    found.routing.set(RouteTable(aliases={"old": "m@1.0.0"}))
    assert found.router.route("old").resolve().ref.version == "1.0.0"


def test_a_deployment_goes_ahead_and_the_split_waits_until_it_fits_again(tmp_path: Path) -> None:
    found = Device(tmp_path, v1_0_0=MANIFEST, v1_0_1=MANIFEST, v1_1_0=WIDER)
    found.activate("1.0.1", "1.0.0")
    found.routing.set(RouteTable(models={"m": HALVES}))
    assert found.answering() == {"1.0.0", "1.0.1"}
    found.activate("1.1.0", "1.0.1")
    assert found.answering() == {"1.1.0"}
    (sentence,) = found.routing.missing()
    assert sentence.startswith("m: previous has other tensors than the active version (input 'x' is")
    assert sentence.endswith("its share goes to the active version")
    report = found.routing.report("m")
    assert report is not None
    assert [(arm.version, arm.share_ratio) for arm in report.arms] == [("1.1.0", 1.0)]
    found.activate("1.0.1", "1.0.0")  # back
    assert found.answering() == {"1.0.0", "1.0.1"}
    assert found.routing.missing() == ()


def test_a_table_that_is_restored_is_followed_as_far_as_it_fits(tmp_path: Path) -> None:
    before = Device(tmp_path, v1_0_0=WIDER, v1_1_0=WIDER)
    before.activate("1.1.0", "1.0.0")
    before.routing.set(RouteTable(models={"m": HALVES}))
    after = device(tmp_path)
    after.activate("1.1.0", "1.0.0")
    assert after.routing.restore() == ()
    assert after.answering() == {"1.1.0"}
    assert "has other tensors" in after.routing.missing()[0]


def test_a_version_whose_tensors_are_known_only_once_it_is_asked_answers_nobody(tmp_path: Path) -> None:
    """It could not be loaded at the start."""
    before = Device(tmp_path, v1_0_0=WIDER, v1_1_0=WIDER)
    before.activate("1.1.0", "1.0.0")
    before.routing.set(RouteTable(models={"m": HALVES}))
    after = device(tmp_path)
    after.activate("1.1.0", "1.0.0")
    after.router.set_table(before.routing.table)
    assert after.routing.missing() == (), "nobody knows yet"
    assert after.answering() == {"1.1.0"}
    assert "has other tensors" in after.routing.missing()[0]


def test_a_shadow_is_shown_only_what_it_takes(tmp_path: Path) -> None:
    found = device(tmp_path)
    found.activate("1.1.0", "1.2.0", "1.0.0")
    found.routing.set(RouteTable(models={"m": SHADOWED}))
    assert set(found.mirroring.pairs) == {("1.1.0", "1.2.0")}, "which gives more besides"
    found.router.route("m@1.0.0").resolve()
    assert set(found.mirroring.pairs) == {("1.1.0", "1.2.0")}, "asked by its name, it takes what the shadow does not"
    found.activate("1.0.0", "1.1.0")
    (sentence,) = found.routing.missing()
    assert sentence.endswith("; nothing is shadowed")
    assert set(found.mirroring.pairs) == {("1.1.0", "1.2.0")}
