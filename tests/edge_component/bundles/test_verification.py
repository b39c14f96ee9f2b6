"""The rules of acceptance, one refusal each."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from edge_component.bundles.signature import SignedFiles
from edge_component.bundles.verification import Asked, Circumstances, Release, Verified, verify
from edge_component.contracts.manifest import BundledFile, GoldenTest, Manifest, TensorSpec
from edge_component.errors import (
    BundleError,
    ExpiredError,
    ManifestError,
    OlderReleaseError,
    TamperedError,
    WrongComponentError,
    WrongPlatformError,
    WrongVersionError,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CONTENTS = {"model.onnx": b"graph", "golden.npz": b"samples"}
MANIFEST = Manifest(
    component_name="com.edgewright.model.M",
    model_name="m",
    version="1.2.0",
    release=12,
    platform="linux/x86_64",
    created_at=NOW - timedelta(days=1),
    expires_at=NOW + timedelta(days=30),
    precision="fp32",
    opsets={"": 17},
    inputs=(TensorSpec("x", "float32", (-1, 3)),),
    outputs=(TensorSpec("y", "float32", (-1, 3)),),
    files={path: BundledFile(hashlib.sha256(data).hexdigest(), len(data)) for path, data in CONTENTS.items()},
    golden=GoldenTest(1e-5, 1e-6),
)
HERE = Circumstances("linux/x86_64", NOW, None, None)
ASKED = Asked("com.edgewright.model.M", "1.2.0")


def digests_of(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}


def decide(
    manifest: Manifest = MANIFEST,
    circumstances: Circumstances = HERE,
    asked: Asked = ASKED,
    found: Mapping[str, bytes] | None = None,
    signed: Mapping[str, bytes] | None = None,
) -> Verified:
    whole = {**CONTENTS, "manifest.json": manifest.to_bytes()}
    present = {**(whole if found is None else found), "model.sig": b"signature"}
    sizes_bytes = {path: len(data) for path, data in present.items()}
    vouched = digests_of(whole if signed is None else signed)
    return verify(sizes_bytes, present.get("manifest.json", b""), SignedFiles(vouched, "k.pem"), asked, circumstances)


def test_a_good_bundle_is_identified_by_its_manifest() -> None:
    assert decide() == Verified(MANIFEST, hashlib.sha256(MANIFEST.to_bytes()).hexdigest())


def whole(**changes: bytes | None) -> dict[str, bytes]:
    contents: dict[str, bytes | None] = {**CONTENTS, "manifest.json": MANIFEST.to_bytes(), **changes}
    return {path: data for path, data in contents.items() if data is not None}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (whole(**{"model.onnx": b"graphs"}), "model.onnx has 6 bytes"),
        (whole(**{"model.onnx": None}), "missing: model.onnx"),
        (whole(**{"extra.bin": b""}), "not signed: extra.bin"),
        (whole(**{"manifest.json": b"{}"}), "manifest.json is not the file"),
    ],
)
def test_files_that_are_not_the_signed_ones(found: dict[str, bytes], told: str) -> None:
    with pytest.raises(TamperedError, match=told):
        decide(found=found)


def test_a_manifest_that_lists_other_files_than_were_signed() -> None:
    more = whole(**{"extra.bin": b"hidden"})
    with pytest.raises(ManifestError, match=r"extra\.bin"):
        decide(found=more, signed=more)
    listed = replace(MANIFEST, files={**MANIFEST.files, "model.onnx": BundledFile("0" * 64, 5)})
    with pytest.raises(ManifestError, match=r"model\.onnx"):
        decide(listed)


def test_a_bundle_without_golden_samples_or_without_a_manifest() -> None:
    files = {"model.onnx": MANIFEST.files["model.onnx"]}
    without = replace(MANIFEST, files=files)
    contents = {"model.onnx": CONTENTS["model.onnx"], "manifest.json": without.to_bytes()}
    with pytest.raises(ManifestError, match=r"golden\.npz"):
        decide(without, found=contents, signed=contents)
    with pytest.raises(ManifestError, match=r"no manifest\.json"):
        decide(found=CONTENTS, signed=CONTENTS)


CASES: list[tuple[str, dict[str, object], type[BundleError]]] = [
    ("component", {"asked": Asked("com.edgewright.model.N", "1.2.0")}, WrongComponentError),
    ("version", {"asked": Asked("com.edgewright.model.M", "1.3.0")}, WrongVersionError),
    ("platform", {"circumstances": replace(HERE, platform="linux/aarch64")}, WrongPlatformError),
    ("expired now", {"circumstances": replace(HERE, now=MANIFEST.expires_at)}, ExpiredError),
    (
        "clock set back, but a later manifest was seen",
        {"circumstances": replace(HERE, now=datetime(1970, 1, 1, tzinfo=UTC), trusted_at=MANIFEST.expires_at)},
        ExpiredError,
    ),
    ("older release", {"circumstances": replace(HERE, floor=Release(13, "0" * 64))}, OlderReleaseError),
    ("same release, other bytes", {"circumstances": replace(HERE, floor=Release(12, "0" * 64))}, OlderReleaseError),
]


@pytest.mark.parametrize(("name", "bent", "error"), CASES, ids=[case[0] for case in CASES])
def test_the_right_bundle_in_the_wrong_circumstances(
    name: str, bent: dict[str, object], error: type[BundleError]
) -> None:
    with pytest.raises(error) as caught:
        decide(**bent)  # type: ignore[arg-type]
    assert caught.value.code.startswith("bundle-")
    assert caught.value.remedy


def test_a_slow_clock_alone_refuses_nothing_and_the_same_release_again_is_welcome() -> None:
    decide(circumstances=replace(HERE, now=datetime(1970, 1, 1, tzinfo=UTC)))
    decide(circumstances=replace(HERE, floor=Release(12, decide().digest)))
    decide(circumstances=replace(HERE, floor=Release(11, "0" * 64)))


@pytest.mark.parametrize(
    ("now", "trusted_at"),
    [
        (MANIFEST.created_at - timedelta(days=1), None),
        (datetime(1970, 1, 1, tzinfo=UTC), None),
        (datetime(2025, 12, 30, tzinfo=UTC), None),
        (NOW - timedelta(days=40), NOW - timedelta(days=30)),
    ],
)
def test_a_clock_that_is_not_set_says_nothing_of_the_future(now: datetime, trusted_at: datetime | None) -> None:
    decide(circumstances=replace(HERE, now=now, trusted_at=trusted_at))


def test_what_may_come_back_passes_the_floor_and_no_other_rule() -> None:
    back = replace(HERE, floor=Release(13, "0" * 64), welcome=frozenset({decide().digest}))
    decide(circumstances=back)
    with pytest.raises(OlderReleaseError):
        decide(replace(MANIFEST, release=11), circumstances=back)
    with pytest.raises(ExpiredError):
        decide(circumstances=replace(back, now=MANIFEST.expires_at))


def test_a_manifest_of_another_major_version_names_its_field() -> None:
    document = {**MANIFEST.to_document(), "schema": "edgewright.bundle/2"}
    other = whole(**{"manifest.json": repr(document).replace("'", '"').encode()})
    with pytest.raises(ManifestError, match="schema"):
        verify(
            {path: len(data) for path, data in other.items()} | {"model.sig": 1},
            other["manifest.json"],
            SignedFiles(digests_of(other), "k.pem"),
            ASKED,
            HERE,
        )


@pytest.mark.parametrize(
    ("bent", "told"),
    [
        ({"model_name": ""}, "model_name"),
        ({"model_name": "m@1.0.0"}, "model_name"),
        ({"model_name": "m\n2026-01-01 INFO all is well"}, "model_name"),
        ({"model_name": "m\0"}, "model_name"),
        ({"model_name": "m" * 129}, "model_name"),
        ({"version": "1.2.0-" + "a" * 59}, "version: has 65"),
    ],
)
def test_a_name_that_cannot_be_asked_for_logged_or_told_is_refused(bent: dict[str, str], told: str) -> None:
    with pytest.raises(ManifestError, match=told) as caught:
        decide(replace(MANIFEST, **bent))  # type: ignore[arg-type]
    assert str(caught.value).isprintable()


def test_a_name_in_any_script_is_welcome() -> None:
    for name in ("wetter für alle", "気象", "m" * 128):
        assert decide(replace(MANIFEST, model_name=name)).manifest.model_name == name
