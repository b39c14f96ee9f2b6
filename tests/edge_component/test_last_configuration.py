"""What the runtime starts with when the nucleus tells its configuration, tells nothing, or never has."""

from pathlib import Path

import pytest

from edge_component.__main__ import configuration_document
from edge_component.last_configuration import BYTES_MAX, FILE, LastConfiguration
from edge_component.nucleus_port import InMemoryNucleus

TOLD = {"oip_rest_port": 8080, "socket_group": "vision", "accessControl": {"a": {"resources": ["*"]}}}
MOMENT_S = 0.01


def away() -> InMemoryNucleus:
    return InMemoryNucleus(is_connected=False)


def started_with(nucleus: InMemoryNucleus, work: Path) -> object:
    return configuration_document(nucleus, None, LastConfiguration(work), MOMENT_S)


def test_a_silent_nucleus_is_not_waited_for_and_what_it_told_last_time_holds(tmp_path: Path) -> None:
    assert started_with(away(), tmp_path) is None, "not known, which is not the same as told that there is none"
    assert started_with(InMemoryNucleus(document=TOLD), tmp_path) == TOLD
    assert started_with(away(), tmp_path) == TOLD
    assert started_with(InMemoryNucleus(), tmp_path) == {}, "told, and told that there is none"
    assert started_with(away(), tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"{", b'{"a":1,"crc32":"0"}', b"[]"])
def test_a_damaged_file_is_nothing_known(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert started_with(away(), tmp_path) is None


@pytest.mark.parametrize("document", [{"a": "x" * BYTES_MAX}, {"a": float("nan")}])
def test_what_cannot_be_kept_keeps_what_was_kept_before(tmp_path: Path, document: dict[str, object]) -> None:
    LastConfiguration(tmp_path).keep(TOLD)
    LastConfiguration(tmp_path).keep(document)
    assert LastConfiguration(tmp_path).read() == TOLD


def test_a_folder_that_refuses_is_no_reason_not_to_start(tmp_path: Path) -> None:
    LastConfiguration(tmp_path / "gone").keep(TOLD)
    assert LastConfiguration(tmp_path / "gone").read() is None
