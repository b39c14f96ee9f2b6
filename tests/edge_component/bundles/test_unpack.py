"""Archives that mean harm: refused, nothing left outside, nothing left at all."""

import hashlib
import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from edge_component.activation.intake import digest_in
from edge_component.bundles.store import Store
from edge_component.bundles.unpack import UnpackLimits, preview, unpack
from edge_component.bundles.verification import FoundFile
from edge_component.errors import ActivationDeadlineError, ArchiveError, StoreError, TamperedError

Fill = Callable[[zipfile.ZipFile], object]


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def zipped(fill: Fill, compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        fill(archive)
    return target.getvalue()


def put(name: str, data: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Fill:
    return lambda archive: archive.writestr(entry(name, mode), data)


def many(archive: zipfile.ZipFile) -> None:
    for number in range(100):
        archive.writestr(entry(f"f{number}"), b"")


def twice(archive: zipfile.ZipFile) -> None:
    archive.writestr(entry("model.onnx"), b"good")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(entry("model.onnx"), b"bad")


def lying_size() -> bytes:
    """Headers that say 1 byte, for 5,000 packed into a few."""
    data = bytearray(zipped(put("a", b"\0" * 5000), zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature)
        data[at + offset : at + offset + 4] = struct.pack("<I", 1)
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(zipped(put("a", b"secret")))
    data[6] |= 1
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


def packed(data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("a", data)
    return target.getvalue()


def no_text(in_the_directory: bool) -> bytes:
    """A name of bytes that are no UTF-8, where it says that it is."""
    data = bytearray(zipped(put("\u00e4")))
    at = data.rindex(b"\xc3\xa4") if in_the_directory else data.index(b"\xc3\xa4")
    data[at : at + 2] = b"\xff\xfe"
    return bytes(data)


def before_the_file() -> bytes:
    """A directory that says it begins later than it does, so that its entries begin before the file."""
    data = bytearray(zipped(put("a")))
    at = data.index(b"PK\x05\x06") + 16
    data[at : at + 4] = struct.pack("<I", 1_000)
    return bytes(data)


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "not a zip": lambda: b"no zip at all",
    "empty file": lambda: b"",
    "cut off": lambda: zipped(put("a", b"x" * 1000))[:-40],
    "garbled content": lambda: zipped(put("a", b"x" * 100)).replace(b"xxxx", b"xyxx", 1),
    "climbs out": lambda: zipped(put("../outside")),
    "climbs out in the middle": lambda: zipped(put("a/../../outside")),
    "absolute": lambda: zipped(put("/outside")),
    "backslash": lambda: zipped(put("..\\outside")),
    "dot": lambda: zipped(put("./a")),
    "empty part": lambda: zipped(put("a//b")),
    "long name": lambda: zipped(put("n" * 300)),
    "symlink": lambda: zipped(put("link", b"/etc/passwd", stat.S_IFLNK | 0o777)),
    "device": lambda: zipped(put("dev", b"", stat.S_IFCHR | 0o600)),
    "fifo": lambda: zipped(put("pipe", b"", stat.S_IFIFO | 0o600)),
    "a hundred entries": lambda: zipped(many),
    "one name twice": lambda: zipped(twice),
    "larger than allowed": lambda: zipped(put("a", b"x" * 200_001)),
    "a bomb": lambda: packed(b"\0" * 150_000),
    "bzip2": lambda: packed(b"x" * 100, zipfile.ZIP_BZIP2),
    "LZMA": lambda: packed(b"x" * 100, zipfile.ZIP_LZMA),
    "a name that is no text": lambda: no_text(in_the_directory=True),
    "a name that is no text in its own header": lambda: no_text(in_the_directory=False),
    "a line break in a name": lambda: zipped(put("a\n2026-01-01 INFO all is well")),
    "an entry before the file": before_the_file,
    "lying headers": lying_size,
    "encrypted": encrypted,
    "a file as a folder": lambda: zipped(lambda z: (z.writestr(entry("a"), b"x"), z.writestr(entry("a/b"), b"y"))[0]),
}


def unpack_all(archive: Path, folder: Path, limits: UnpackLimits | None = None) -> None:
    """Everything that it says it holds, wanted just as it can be read."""
    unpack(archive, folder, listed_of(archive, limits), limits)


def listed_of(archive: Path, limits: UnpackLimits | None = None) -> dict[str, FoundFile]:
    listed = {}
    for path, size_bytes in preview(archive, limits).sizes_bytes.items():
        content = b""
        with suppress(Exception), zipfile.ZipFile(archive) as opened:
            content = opened.read(path)
        listed[path] = FoundFile(hashlib.sha256(content).hexdigest(), size_bytes)
    return listed


METHODS_OF_ZIPFILE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
LIMITS = UnpackLimits(entries_max=66, bytes_max=200_000, ratio_max=100)


@pytest.mark.parametrize("make", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_a_malicious_archive_is_refused_and_leaves_nothing(make: Callable[[], bytes], tmp_path: Path) -> None:
    archive = tmp_path / "bundle.zip"
    archive.write_bytes(make())
    store = Store(tmp_path / "work")
    store.prepare()
    with pytest.raises(ArchiveError) as caught:
        store.stage(archive, listed_of(archive, LIMITS), LIMITS, lambda: True)
    assert caught.value.remedy
    assert str(caught.value).isprintable(), "it is logged as it is"
    assert digest_in(archive) is None, "the first look at it is as wary"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.zip", "work"]
    assert list((tmp_path / "work" / "staging").iterdir()) == []


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"no .*gone\.zip"):
        unpack(tmp_path / "gone.zip", tmp_path, {})
    with pytest.raises(ArchiveError, match=r"no .*gone\.zip"):
        preview(tmp_path / "gone.zip")


@pytest.mark.parametrize("name", ["a\0b.zip", "n" * 300, "a/" * 3000])
def test_a_path_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    assert digest_in(tmp_path / name) is None
    with pytest.raises((ArchiveError, StoreError)):
        preview(tmp_path / name)


def test_time_that_runs_out_stops_it(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(put("a")))
    (tmp_path / "to").mkdir()
    with pytest.raises(ActivationDeadlineError):
        unpack(tmp_path / "a.zip", tmp_path / "to", listed_of(tmp_path / "a.zip"), in_time=lambda: False)


def test_files_come_out_as_listed_and_private(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(put("sub/a", b"hello"), zipfile.ZIP_DEFLATED))
    (tmp_path / "to").mkdir()
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    unpack(tmp_path / "a.zip", tmp_path / "to", {"sub/a": FoundFile(digest, 5)})
    assert (tmp_path / "to" / "sub" / "a").read_bytes() == b"hello"
    assert stat.S_IMODE((tmp_path / "to" / "sub" / "a").stat().st_mode) == 0o600


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_mutation_of_a_zip_gets_past_the_typed_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    def fill(archive: zipfile.ZipFile) -> None:
        archive.writestr("a", b"hello" * 20)
        archive.writestr("b/c", b"world")

    content = bytearray(zipped(fill, data.draw(st.sampled_from(METHODS_OF_ZIPFILE))))
    directory = content.index(b"PK\x01\x02")  # what is read first, and believed most
    for _ in range(data.draw(st.integers(1, 4))):
        first = data.draw(st.sampled_from([0, directory]))
        content[data.draw(st.integers(first, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.zip").write_bytes(content)
    (folder / "to").mkdir()
    digest_in(folder / "a.zip")
    with suppress(ArchiveError, TamperedError):
        unpack_all(folder / "a.zip", folder / "to", LIMITS)
    assert sorted(path.name for path in folder.iterdir()) == ["a.zip", "to"]


def large_directory() -> bytes:
    data = zipped(put("a"))
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    directory = data[at:end] * 10_000
    return data[:at] + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 10_000, 10_000, len(directory), at, 0)


def zip64() -> bytes:
    data = zipped(put("a"))
    end = data.index(b"PK\x05\x06")
    return data[:end] + struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1) + data[end:]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (large_directory, "its directory takes"),
        (lambda: large_directory()[:-2] + b"\x04\x00" + b"note", "its directory takes"),
        (zip64, "zip64"),
    ],
)
def test_a_directory_is_measured_before_it_is_read(make: Callable[[], bytes], told: str, tmp_path: Path) -> None:
    (tmp_path / "bundle.zip").write_bytes(make())
    (tmp_path / "into").mkdir()
    with pytest.raises(ArchiveError, match=told):
        preview(tmp_path / "bundle.zip")
    with pytest.raises(ArchiveError, match=told):
        unpack(tmp_path / "bundle.zip", tmp_path / "into", {})


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.zip")
    (tmp_path / "into").mkdir()
    for path in (tmp_path / "fifo.zip", Path("/dev/zero"), tmp_path):
        with pytest.raises(ArchiveError, match="not a plain file"):
            preview(path)
        with pytest.raises(ArchiveError, match="not a plain file"):
            unpack(path, tmp_path / "into", {})


CONTENTS = {"a": b"first", "b": b"second"}
LISTED = {name: FoundFile(hashlib.sha256(content).hexdigest(), len(content)) for name, content in CONTENTS.items()}
REPLACED: dict[str, dict[str, bytes]] = {
    "a file is gone": {"a": b"first"},
    "a file has other bytes": {"a": b"first", "b": b"sec0nd"},
    "a file is longer": {"a": b"first", "b": b"second, and more"},
}


@pytest.mark.parametrize("contents", REPLACED.values(), ids=REPLACED.keys())
def test_an_archive_that_is_replaced_after_the_first_look_gets_nothing_in(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    archive, store = tmp_path / "a.zip", Store(tmp_path / "work")
    store.prepare()
    archive.write_bytes(zipped(lambda opened: [opened.writestr(*file) for file in contents.items()]))
    with pytest.raises(TamperedError):
        store.stage(archive, LISTED, LIMITS, lambda: True)
    assert list((tmp_path / "work" / "staging").iterdir()) == []


def test_what_is_not_listed_is_not_written(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "to"
    folder.mkdir()
    contents = {**CONTENTS, "c": b"came later"}
    archive.write_bytes(zipped(lambda opened: [opened.writestr(*file) for file in contents.items()]))
    unpack(archive, folder, LISTED)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS


@pytest.mark.parametrize("order", [("model.sig", "manifest.json", "a"), ("a", "manifest.json", "model.sig")])
def test_the_small_files_are_found_wherever_they_lie(order: tuple[str, ...], tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(lambda opened: [opened.writestr(name, name.encode()) for name in order]))
    seen = preview(archive)
    assert (seen.manifest, seen.signature) == (b"manifest.json", b"model.sig")
    assert seen.sizes_bytes == {name: len(name) for name in order}
    archive.write_bytes(zipped(put("a")))
    assert (preview(archive).manifest, preview(archive).signature) == (None, None)
