"""Publishing in memory: every interruption is completed by a re-run, and every contradiction is refused before uploading."""

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import pytest

from cloud.compilation.result import Compilation
from cloud.errors import InvalidInputError, UnavailableError
from cloud.publishing.component_release import Patience
from cloud.publishing.errors import (
    CompilationIncompleteError,
    ComponentFailedError,
    ComponentPendingError,
    ComponentTakenError,
    RecipeInvalidError,
    VersionConflictError,
)
from cloud.publishing.memory import MemoryArtifacts, MemoryComponents
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.publishing.record import Layout, PublicationRecord
from cloud.publishing.releases import claim_release
from cloud.publishing.signing import PemSigner
from cloud.publishing.versions import highest_version, next_minor
from edge_component.contracts.baseline import baseline_id
from tests.cloud.publishing.conftest import KEY, NOW, MakeFolder

LINEAR = "com.edgewright.model.Linear"


def wanted(folder: Path, version: str = "1.0.0") -> PublishRequest:
    return PublishRequest(folder, version, "bucket")


def stored(ports: PublishingPorts) -> dict[str, bytes]:
    assert isinstance(ports.artifacts, MemoryArtifacts)
    return ports.artifacts.objects


def recipes(ports: PublishingPorts) -> dict[tuple[str, str], bytes]:
    assert isinstance(ports.catalog, MemoryComponents)
    return ports.catalog.created


def test_a_publication_is_one_component_with_a_signed_bundle_for_each_platform(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    publication = publish_model(wanted(make_folder()), KEY, ports)
    assert (publication.version, publication.release, publication.model_name) == ("1.0.0", 1, "linear")
    assert [bundle.platform for bundle in publication.bundles] == ["linux/aarch64", "linux/x86_64"]
    assert publication.expires_at == NOW + timedelta(days=365)
    recipe = json.loads(recipes(ports)[LINEAR, "1.0.0"])
    named = {artifact["Uri"] for manifest in recipe["Manifests"] for artifact in manifest["Artifacts"]}
    assert named == {uri for uri in stored(ports) if "/artifacts/" in uri}


def test_the_baseline_is_found_by_the_id_that_telemetry_windows_carry(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    folder = make_folder()
    publish_model(wanted(folder), KEY, ports)
    own_id = baseline_id((folder / "baseline.json").read_bytes())
    assert ports.artifacts.get_bytes(Layout("bucket").baseline(own_id)) == (folder / "baseline.json").read_bytes()


def test_publishing_again_changes_nothing_even_on_another_day(make_folder: MakeFolder, ports: PublishingPorts) -> None:
    folder = make_folder()
    first = publish_model(wanted(folder), KEY, ports)
    objects, made = dict(stored(ports)), dict(recipes(ports))
    later = dataclasses.replace(ports, now=lambda: NOW + timedelta(days=9))
    assert publish_model(wanted(folder), KEY, later) == first
    assert (stored(ports), recipes(ports)) == (objects, made)


def failing_at(ports: PublishingPorts, failing_call: int) -> PublishingPorts:
    """The same ports, of which the n-th call finds its service gone."""
    call_count = 0

    def outage(operation: str) -> None:
        nonlocal call_count
        call_count += 1
        if call_count == failing_call:
            raise UnavailableError(f"{operation}: no answer")

    assert isinstance(ports.artifacts, MemoryArtifacts)
    assert isinstance(ports.catalog, MemoryComponents)
    ports.artifacts.outage = ports.catalog.outage = outage
    return ports


def fresh(day: int) -> PublishingPorts:
    artifacts, catalog = MemoryArtifacts(), MemoryComponents()
    return PublishingPorts(artifacts, catalog, now=lambda: NOW + timedelta(days=day))


@pytest.mark.parametrize("version", ["1.0.0", "auto"])
def test_whatever_call_fails_the_same_command_completes_it_with_the_bytes_first_decided(
    make_folder: MakeFolder, version: str
) -> None:
    folder = make_folder()
    failing_call = 0
    while True:
        failing_call += 1
        ports = failing_at(fresh(0), failing_call)
        try:
            publish_model(wanted(folder, version), KEY, ports)
        except UnavailableError:
            before = dict(stored(ports))
        else:
            break
        later = dataclasses.replace(ports, now=lambda: NOW + timedelta(days=1))
        publication = publish_model(wanted(folder, version), KEY, later)
        assert (publication.version, publication.release) == ("1.0.0", 1)
        assert before.items() <= stored(ports).items()
        assert list(recipes(ports)) == [(LINEAR, "1.0.0")]
    assert failing_call > 10, "the loop must have met every call"


def test_the_same_version_with_other_bytes_is_refused_before_anything_is_uploaded(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    publish_model(wanted(make_folder("one", slope=1.0)), KEY, ports)
    objects = dict(stored(ports))
    with pytest.raises(VersionConflictError, match=r"Linear 1\.0\.0 exists with other content") as caught:
        publish_model(wanted(make_folder("two", slope=2.0)), KEY, ports)
    assert "new version" in caught.value.remedy
    assert stored(ports) == objects


def test_the_same_version_with_fewer_platforms_is_other_content(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    publish_model(wanted(make_folder("both")), KEY, ports)
    with pytest.raises(VersionConflictError):
        publish_model(wanted(make_folder("one", platforms=("linux/x86_64",))), KEY, ports)


def test_the_same_version_with_another_key_is_refused(make_folder: MakeFolder, ports: PublishingPorts) -> None:
    folder = make_folder()
    publish_model(wanted(folder), KEY, ports)
    with pytest.raises(VersionConflictError, match="signed with another key"):
        publish_model(wanted(folder), PemSigner.generate(), ports)


def test_a_component_that_somebody_else_made_is_not_taken_over(make_folder: MakeFolder, ports: PublishingPorts) -> None:
    ports.catalog.create(json.dumps({"ComponentName": LINEAR, "ComponentVersion": "1.0.0"}).encode(), "")
    with pytest.raises(VersionConflictError, match="does not"):
        publish_model(wanted(make_folder()), KEY, ports)
    assert stored(ports) == {}


def test_a_changed_template_is_another_recipe_and_nothing_is_uploaded(
    make_folder: MakeFolder, ports: PublishingPorts, tmp_path: Path
) -> None:
    folder = make_folder()
    publish_model(wanted(folder), KEY, ports)
    objects = dict(stored(ports))
    (tmp_path / "recipes").mkdir()
    text = (ports.recipes / "com.edgewright.model.yaml").read_text()
    (tmp_path / "recipes" / "com.edgewright.model.yaml").write_text(text.replace("Timeout: 60", "Timeout: 61"))
    with pytest.raises(VersionConflictError, match="exists with another recipe"):
        publish_model(wanted(folder), KEY, dataclasses.replace(ports, recipes=tmp_path / "recipes"))
    assert stored(ports) == objects


def test_a_recipe_that_is_too_large_is_refused_before_anything_is_written(
    make_folder: MakeFolder, ports: PublishingPorts, tmp_path: Path
) -> None:
    (tmp_path / "recipes").mkdir()
    text = (ports.recipes / "com.edgewright.model.yaml").read_text()
    bloated = text.replace("ComponentPublisher: Edgewright", f"ComponentPublisher: {'x' * 16_000}")
    (tmp_path / "recipes" / "com.edgewright.model.yaml").write_text(bloated)
    with pytest.raises(RecipeInvalidError, match="at most 16000"):
        publish_model(wanted(make_folder()), KEY, dataclasses.replace(ports, recipes=tmp_path / "recipes"))
    assert stored(ports) == {}


def test_missing_golden_samples_are_refused_before_anything_is_written(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    folder = make_folder()
    (folder / "golden.npz").unlink()
    with pytest.raises(CompilationIncompleteError, match=r"golden\.npz is missing"):
        publish_model(wanted(folder), KEY, ports)
    assert stored(ports) == {}


@pytest.mark.parametrize("version", ["1", "v1.0.0", "1.0", "latest", "1.0.0+build"])
def test_a_version_that_is_none_is_refused(make_folder: MakeFolder, ports: PublishingPorts, version: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a version"):
        publish_model(wanted(make_folder(), version), KEY, ports)


def test_auto_counts_on_and_knows_content_that_is_published_already(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    one, two = make_folder("one", slope=1.0), make_folder("two", slope=2.0)
    versions = [publish_model(wanted(folder, "auto"), KEY, ports) for folder in (one, one, two, two)]
    assert [(each.version, each.release) for each in versions] == [
        ("1.0.0", 1), ("1.0.0", 1), ("1.1.0", 2), ("1.1.0", 2),
    ]  # fmt: skip


def test_a_model_of_another_name_does_not_take_over_the_component(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    publish_model(wanted(make_folder("one")), KEY, ports)
    objects = dict(stored(ports))
    other = make_folder("two", slope=2.0)
    (other / "baseline.json").unlink()
    renamed = dataclasses.replace(Compilation.load(other), model_name="lin-ear", features=(), watched_outputs=())
    renamed.save(other)
    for version in ("1.1.0", "auto"):
        with pytest.raises(ComponentTakenError, match="carries the model 'linear' already, not 'lin-ear'"):
            publish_model(wanted(other, version), KEY, ports)
    assert stored(ports) == objects


def test_a_component_that_greengrass_refuses_is_reported_with_its_words(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    assert isinstance(ports.catalog, MemoryComponents)
    ports.catalog.state, ports.catalog.message = "FAILED", "artifact cannot be accessed"
    with pytest.raises(ComponentFailedError, match="artifact cannot be accessed"):
        publish_model(wanted(make_folder()), KEY, ports)


def test_a_component_that_never_becomes_deployable_ends_the_wait(
    make_folder: MakeFolder, ports: PublishingPorts
) -> None:
    assert isinstance(ports.catalog, MemoryComponents)
    ports.catalog.state = "REQUESTED"
    ticks = iter(range(1000))
    patience = Patience(deadline_s=5, monotonic=lambda: next(ticks), sleep=lambda seconds: None)
    with pytest.raises(ComponentPendingError, match="is REQUESTED after 5 s"):
        publish_model(wanted(make_folder()), KEY, dataclasses.replace(ports, patience=patience))


def test_two_publishers_never_share_a_release_number() -> None:
    artifacts, layout = MemoryArtifacts(), Layout("bucket")
    assert claim_release(layout, LINEAR, "1.0.0", artifacts) == 1
    rival = MemoryArtifacts(artifacts.objects)

    def overtaken(operation: str) -> None:
        if operation == "put_new" and len(artifacts.objects) == 1:
            assert claim_release(layout, LINEAR, "1.1.0", rival) == 2

    artifacts.outage = overtaken
    assert claim_release(layout, LINEAR, "1.2.0", artifacts) == 3


def test_a_record_is_read_as_it_was_written() -> None:
    from cloud.publishing.bundle import Stamp

    record = PublicationRecord(
        LINEAR,
        "1.0.0",
        Stamp(2, NOW, NOW),
        {"linux/x86_64": "0" * 64},
        "1" * 64,
        {"linux/x86_64": "{}"},
        extra={"new": 1},
    )
    assert PublicationRecord.from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize(
    ("existing", "following"),
    [
        ([], "1.0.0"),
        (["1.0.0"], "1.1.0"),
        (["1.9.3", "1.10.0", "junk"], "1.11.0"),
        (["2.0.0-rc.1", "1.5.0"], "2.1.0"),
    ],
)
def test_the_next_version_is_the_next_minor_of_the_highest(existing: list[str], following: str) -> None:
    assert next_minor(existing) == following


def test_a_release_is_above_its_pre_releases() -> None:
    assert highest_version(["1.0.0-rc.2", "1.0.0", "1.0.0-rc.1"]) == "1.0.0"
