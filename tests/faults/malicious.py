"""Malicious files, each handed to a real runtime under load: refused with the code below, or contained by the trial.

Archives break what a zip may be. Bundles are well-formed and signed by somebody, or misuse their signature. Models and
golden samples are signed by a *trusted* key, as an insider or a stolen pipeline would: nothing but the trial's child and
its caps stands before them. After each: the same process answers, with the old version, correctly; nothing is staged;
nothing has appeared beside the work folder. At the end: its memory has not grown by what it was offered.
"""

import io
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edge_component.client import ClientError
from edge_component.contracts.manifest import Caps, Manifest
from tests.edge_component.bundle_factory import (
    COMPONENT,
    Bundle,
    BundleFactory,
    Files,
    new_key,
    npz,
    scale_golden,
    scale_model,
    sign_statement,
    statement_of,
)
from tests.edge_component.bundles.test_unpack import ARCHIVES
from tests.edge_component.graphs import endless_model, hungry_model
from tests.faults import evil_graphs as evil
from tests.faults.served import Served, served
from tests.faults.strikes import Tally

RSS_GROWTH_BYTES_MAX = 64_000_000
CAPS = Caps(load_timeout_ms=3_000, memory_bytes_max=400_000_000)
VERSION = "1.1.0"

Build = Callable[[BundleFactory, Path], Path]


@dataclass(frozen=True)
class Case:
    """``build`` makes the file; any of ``codes`` is right."""

    build: Build
    codes: tuple[str, ...]


def archive(content: Callable[[], bytes]) -> Build:
    def build(bundles: BundleFactory, folder: Path) -> Path:
        path = folder / "archive.zip"
        path.write_bytes(content())
        return path

    return build


def bundle(
    files: Callable[[], Files] = dict,
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    after: Callable[[Files], None] = lambda files: None,
    **keywords: object,
) -> Build:
    def build(bundles: BundleFactory, folder: Path) -> Path:
        contents = {"golden.npz": scale_golden(2.0), **files()}
        made: Bundle = bundles.scale(
            VERSION, 2.0, release=2, files=contents, change=lambda m: change(replace(m, caps=CAPS)), after=after,
            **keywords,
        )  # fmt: skip
        return made.archive

    return build


def model(graph: Callable[[], bytes], **others: bytes) -> Build:
    return bundle(lambda: {"model.onnx": graph(), **{name.replace("__", "."): data for name, data in others.items()}})


def golden(content: Callable[[], bytes]) -> Build:
    return bundle(lambda: {"golden.npz": content()})


def fifo(bundles: BundleFactory, folder: Path) -> Path:
    os.mkfifo(folder / "fifo.zip")
    return folder / "fifo.zip"


def sparse(bundles: BundleFactory, folder: Path) -> Path:
    with (folder / "sparse.zip").open("wb") as file:
        file.truncate(10 << 30)
    return folder / "sparse.zip"


def large_directory() -> bytes:
    """400,000 entries in the directory, 20 MB; zipfile would make 400,000 objects of it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as opened:
        opened.writestr("a", b"x")
    data = target.getvalue()
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    directory = data[at:end] * 400_000
    return data[:at] + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), at, 0)


def zip64() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as opened:
        opened.writestr("a", b"x")
    data = target.getvalue()
    end = data.index(b"PK\5\6")
    return data[:end] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + data[end:]


def unsigned(files: Files) -> None:
    del files["model.sig"]


def tampered(files: Files) -> None:
    files["model.onnx"] = scale_model(666.0)


def smuggled(files: Files) -> None:
    files["sitecustomize.py"] = b"import os; os.abort()"


def endless_signature(files: Files) -> None:
    files["model.sig"] = b" " * 5_000_000 + files["model.sig"]


def deep_manifest(files: Files) -> None:
    files["manifest.json"] = b"[" * 30_000 + b"]" * 30_000


def climbing_statement(bundles: BundleFactory, folder: Path) -> Path:
    def climb(files: Files) -> None:
        statement = statement_of({name: data for name, data in files.items() if name != "model.sig"})
        statement["predicate"]["resources"][0]["name"] = "../../outside"  # type: ignore[index]
        files["model.sig"] = sign_statement(statement, bundles.key)

    return bundle(after=climb)(bundles, folder)


def expired(manifest: Manifest) -> Manifest:
    return replace(manifest, expires_at=datetime.now(UTC) - timedelta(days=1))


def elsewhere(manifest: Manifest) -> Manifest:
    return replace(manifest, platform="linux/aarch64" if manifest.platform != "linux/aarch64" else "linux/x86_64")


def golden_bomb() -> bytes:
    """Two gigabytes of zeros in two megabytes: within what one bundle's file may be."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as opened:
        for name in ("input:x.npy", "output:y.npy"):
            with opened.open(name, "w") as file:
                header = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    header, {"descr": "<f4", "fortran_order": False, "shape": (250_000_000,)}
                )
                file.write(header.getvalue())
                for _ in range(600):
                    file.write(b"\0" * 1_000_000)
    return target.getvalue()


def golden_lie() -> bytes:
    """A header that says ten terabytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as opened:
        for name in ("input:x.npy", "output:y.npy"):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f4", "fortran_order": False, "shape": (2_500_000_000_000,)}
            )
            opened.writestr(name, header.getvalue())
    return target.getvalue()


BAD_ARCHIVE = ("bundle-archive",)
"""What only unpacking would show is found unsigned first."""
UNLOADABLE = ("model-unloadable",)
HUNGRY = ("trial-out-of-memory",)

CASES: dict[str, Case] = {
    **{
        f"archive: {name}": Case(archive(make), (*BAD_ARCHIVE, "bundle-unsigned"))
        for name, make in ARCHIVES.items()
        if name != "larger than allowed"  # by the limits of the test that it comes from
    },
    "archive: a directory of 400,000 entries": Case(archive(large_directory), BAD_ARCHIVE),
    "archive: zip64": Case(archive(zip64), BAD_ARCHIVE),
    "path: a FIFO": Case(fifo, BAD_ARCHIVE),
    "path: an endless device": Case(lambda bundles, folder: Path("/dev/zero"), BAD_ARCHIVE),
    "path: a folder": Case(lambda bundles, folder: folder, BAD_ARCHIVE),
    "path: 10 GB of nothing": Case(sparse, BAD_ARCHIVE),
    "path: no such file": Case(lambda bundles, folder: folder / "nowhere.zip", BAD_ARCHIVE),
    "bundle: unsigned": Case(bundle(after=unsigned), ("bundle-unsigned",)),
    "bundle: signed by another key": Case(bundle(key=new_key()), ("bundle-untrusted-key",)),
    "bundle: changed after signing": Case(bundle(after=tampered), ("bundle-tampered",)),
    "bundle: a file more": Case(bundle(after=smuggled), ("bundle-tampered",)),
    "bundle: an endless signature": Case(bundle(after=endless_signature), ("bundle-signature",)),
    "bundle: a signed name that climbs": Case(climbing_statement, ("bundle-signature",)),
    "bundle: deep JSON as manifest": Case(bundle(after=deep_manifest), ("bundle-tampered",)),
    "bundle: expired": Case(bundle(change=expired), ("bundle-expired",)),
    "bundle: another platform": Case(bundle(change=elsewhere), ("bundle-wrong-platform",)),
    "bundle: another component": Case(bundle(component="com.edgewright.model.Thief"), ("bundle-wrong-component",)),
    "bundle: a later name for an older release": Case(
        bundle(change=lambda m: replace(m, release=1)), ("bundle-older-release",)
    ),
    "model: empty": Case(model(lambda: b""), UNLOADABLE),
    "model: no protobuf": Case(model(lambda: os.urandom(100_000)), UNLOADABLE),
    "model: cut off": Case(model(lambda: scale_model(2.0)[:-20]), UNLOADABLE),
    "model: external data above the folder": Case(model(lambda: evil.external("../../../secret")), UNLOADABLE),
    "model: external data at an absolute path": Case(model(lambda: evil.external("/etc/passwd")), UNLOADABLE),
    "model: external data that is not there": Case(model(lambda: evil.external("weights.bin")), UNLOADABLE),
    "model: external data beyond the end": Case(
        model(lambda: evil.external("weights.bin", 1 << 40, 4), weights__bin=b"\0" * 64), UNLOADABLE
    ),
    "model: external data of negative offset": Case(
        model(lambda: evil.external("weights.bin", -64, 4), weights__bin=b"\0" * 64), UNLOADABLE
    ),
    "model: external data of 2^62 bytes": Case(
        model(lambda: evil.external("weights.bin", 0, 1 << 62), weights__bin=b"\0" * 64), UNLOADABLE
    ),
    "model: negative dimension": Case(model(lambda: evil.with_dimensions(-5)), UNLOADABLE),
    "model: dimensions beyond 64 bits": Case(model(lambda: evil.with_dimensions(2**62, 2**62)), UNLOADABLE),
    "model: more dimensions than data": Case(model(lambda: evil.with_dimensions(10**9)), UNLOADABLE),
    "model: opset of the future": Case(model(lambda: evil.with_opset(9999)), UNLOADABLE),
    "model: format of the future": Case(model(lambda: evil.with_opset(17, 9999)), UNLOADABLE),
    "model: unknown operator": Case(model(lambda: evil.unknown_operator("", "Exec")), UNLOADABLE),
    "model: custom operator": Case(model(lambda: evil.unknown_operator("evil.corp", "Exec")), UNLOADABLE),
    "model: a circle": Case(model(evil.circle), UNLOADABLE),
    "model: one tensor twice": Case(model(evil.named_twice), UNLOADABLE),
    "model: an input out of nowhere": Case(model(evil.out_of_nowhere), UNLOADABLE),
    "model: a function of itself": Case(model(evil.recursive), UNLOADABLE),
    "model: 3,000 nested functions": Case(model(evil.crashing), ("trial-crashed",)),
    "model: four million nodes by doubling": Case(model(evil.exploding), ("trial-timeout", "trial-out-of-memory")),
    "model: a loop of 2^62 rounds": Case(model(endless_model), ("trial-timeout",)),
    "model: four gigabytes in mid-graph": Case(model(hungry_model), HUNGRY),
    "model: forty gigabytes by tiling": Case(model(evil.large_tile), (*HUNGRY, "golden-mismatch")),
    "model: a range of 2^40": Case(model(evil.endless_range), HUNGRY),
    "model: a shape of 2^124": Case(model(evil.far_reshape), UNLOADABLE),
    "model: an index of 2^62": Case(model(evil.far_gather), ("golden-mismatch", "model-unloadable")),
    "model: text where numbers are promised": Case(model(evil.text_output), ("model-signature-mismatch",)),
    "golden: pickled objects": Case(
        golden(lambda: npz(**{"input:x": np.array([{}], object), "output:y": np.zeros(1)})), ("golden-unusable",)
    ),
    "golden: 1.2 GB of zeros in a megabyte": Case(golden(golden_bomb), ("golden-unusable",)),
    "golden: a header of ten terabytes": Case(golden(golden_lie), ("golden-unusable", "trial-out-of-memory")),
    "golden: no archive": Case(golden(lambda: b"\x93NUMPY"), ("golden-unusable",)),
}  # fmt: skip


def malicious(folder: Path) -> Tally:
    """Hand all of them over."""
    tally = Tally(0, [], Counter())
    with served(folder / "evil", {"probation_s": 0}) as at:
        before_bytes, process_id = at.rss_bytes, at.runtime.process.pid
        beside = {path.name for path in at.runtime.work.parent.iterdir()}
        for name, case in CASES.items():
            tally.points += 1
            place = folder / "made" / str(tally.points)
            place.mkdir(parents=True)
            failure = hand_over(at, case, place)
            if failure:
                tally.failures.append(f"{name}: {failure}")
            else:
                tally.seen[name.split(":")[0]] += 1
        grown_bytes = at.rss_bytes - before_bytes
        if at.runtime.admin.status().process_id != process_id or at.runtime.process.poll() is not None:
            tally.failures.append("the runtime is not the one that was started")
        if grown_bytes > RSS_GROWTH_BYTES_MAX:
            tally.failures.append(f"the runtime grew by {grown_bytes} bytes")
        new = {path.name for path in at.runtime.work.parent.iterdir()} - beside
        if left := {name for name in new if not name.startswith("bundle-")}:
            tally.failures.append(f"outside of the work folder there is now {left}")
        if at.client.wrong or at.client.failed:
            tally.failures.append(f"the client was answered {at.client.wrong[:3]}, or failed: {at.client.failed[:3]}")
        tally.seen["right answers meanwhile"] = at.client.answered
    return tally


def hand_over(at: Served, case: Case, place: Path) -> str:
    """What went otherwise than it should, if anything did."""
    path = case.build(at.bundles, place)
    try:
        at.runtime.admin.activate(path, COMPONENT, VERSION)
    except ClientError as error:
        found = error.code
    else:
        found = "activated"
    if found not in case.codes:
        return f"{found} instead of {' or '.join(case.codes)}"
    if at.serving() != "1.0.0":
        return f"{at.serving()} serves"
    staged = [path.name for path in (at.runtime.work / "staging").iterdir()]
    stored = [path.name for path in (at.runtime.work / "store").iterdir()]
    return f"left behind: {staged} {stored}" if staged or len(stored) != 1 else ""
