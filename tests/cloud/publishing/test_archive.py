"""Archives: the same entries give the same bytes, and nothing escapes."""

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cloud.errors import InvalidInputError
from cloud.publishing.archive import write_archive

NAMES = st.text("abcxyz012", min_size=1, max_size=8).map(lambda name: f"folder/{name}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(entries=st.dictionaries(NAMES, st.binary(max_size=200), max_size=6))
def test_the_same_entries_give_the_same_bytes_whatever_their_order(tmp_path: Path, entries: dict[str, bytes]) -> None:
    forwards = write_archive(tmp_path / "a.zip", entries)
    backwards = write_archive(tmp_path / "b.zip", dict(reversed(list(entries.items()))))
    assert forwards == backwards
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == entries
        assert archive.namelist() == sorted(entries)


def test_a_file_and_its_bytes_give_the_same_archive_whatever_its_time_and_mode(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content" * 1000)
    source.chmod(0o700)
    os.utime(source, (1, 1))
    from_path = write_archive(tmp_path / "a.zip", {"model.onnx": source})
    from_bytes = write_archive(tmp_path / "b.zip", {"model.onnx": b"content" * 1000})
    assert from_path == from_bytes
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        (entry,) = archive.infolist()
    assert entry.external_attr >> 16 == 0o100644
    assert entry.compress_type == zipfile.ZIP_STORED


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../b", "a//b", "./a", "", "a\\b", "a/"])
def test_a_name_that_escapes_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be a name"):
        write_archive(tmp_path / "a.zip", {name: b""})
    assert list(tmp_path.iterdir()) == []
