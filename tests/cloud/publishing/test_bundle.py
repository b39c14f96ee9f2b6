"""Compilation folders in, bundles out: what is missing is named, what is there gives the same bytes every time."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from cloud.publishing.bundle import Stamp, archive_name, make_bundle, read_contents, write_bundle
from cloud.publishing.errors import CompilationIncompleteError
from edge_component.contracts.manifest import BundledFile, Manifest, TensorSpec, bundle_digest
from tests.cloud.publishing.conftest import NOW, MakeFolder

STAMP = Stamp(3, NOW, NOW + timedelta(days=30))


def test_a_bundle_is_the_same_whenever_it_is_made(make_folder: MakeFolder, tmp_path: Path) -> None:
    archives = []
    for name in ("one", "two"):
        compilation, contents = read_contents(make_folder(name))
        bundle = make_bundle(compilation, contents[0], "1.0.0", STAMP)
        archives.append(write_bundle(bundle, b"signature", tmp_path / f"{name}.zip"))
    assert archives[0] == archives[1]


def test_the_manifest_names_every_file_and_carries_the_stamp(make_folder: MakeFolder) -> None:
    compilation, contents = read_contents(make_folder())
    bundle = make_bundle(compilation, contents[1], "1.0.0", STAMP)
    manifest = Manifest.from_bytes(bundle.manifest)
    assert set(manifest.files) == {"model.onnx", "golden.npz", "baseline.json"}
    assert (manifest.release, manifest.expires_at) == (3, NOW + timedelta(days=30))
    assert (manifest.platform, manifest.version) == ("linux/x86_64", "1.0.0")
    assert bundle.digest == bundle_digest(bundle.manifest)
    assert set(bundle.digests) == {*manifest.files, "manifest.json"}


@pytest.mark.parametrize(("model_bytes", "memory_bytes"), [(1_000, 2_000_000_000), (900_000_000, 3_600_000_000)])
def test_a_large_graph_is_given_memory_to_be_loaded_in(
    make_folder: MakeFolder, model_bytes: int, memory_bytes: int
) -> None:
    """One of 980 MB was published, and refused by each device: its trial had 2 GB."""
    compilation, contents = read_contents(make_folder())
    described = {**contents[0].described, "model.onnx": BundledFile("0" * 64, model_bytes)}
    bundle = make_bundle(compilation, replace(contents[0], described=described), "1.0.0", STAMP)
    assert Manifest.from_bytes(bundle.manifest).caps.memory_bytes_max == memory_bytes


def test_a_manifest_that_no_device_could_read_is_refused_by_its_name(make_folder: MakeFolder) -> None:
    compilation, contents = read_contents(make_folder())
    many = tuple(TensorSpec(f"{index:0300}", "float32", (-1, 1)) for index in range(256))
    with pytest.raises(CompilationIncompleteError, match=r"manifest\.json: \d+ bytes; at most 64000") as caught:
        make_bundle(replace(compilation, inputs=many), contents[0], "1.0.0", STAMP)
    assert "shorter names" in caught.value.remedy


def test_an_archive_is_named_by_model_version_and_platform() -> None:
    assert archive_name("com.edgewright.model.Weather", "1.2.0", "linux/x86_64") == "Weather-1.2.0-linux-x86_64.zip"


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def edit(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "compilation.json"
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document))

    return apply


def link_golden(folder: Path) -> None:
    (folder / "golden.npz").rename(folder.parent / "elsewhere.npz")
    (folder / "golden.npz").symlink_to(folder.parent / "elsewhere.npz")


def golden_without_output(folder: Path) -> None:
    np.savez(folder / "golden.npz", **{"input:x": np.zeros((1, 1, 3), np.float32)})  # type: ignore[arg-type]


def golden_that_devices_do_not_read(folder: Path) -> None:
    """600 MB of zeros in little more than half a megabyte."""
    with zipfile.ZipFile(folder / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("input:x.npy", "output:y.npy"):
            with archive.open(name, "w") as file:
                for _ in range(300):
                    file.write(b"\0" * 1_000_000)


def golden_packed_without_bound(folder: Path) -> None:
    with zipfile.ZipFile(folder / "golden.npz", "w", zipfile.ZIP_LZMA) as archive:
        for name in ("input:x.npy", "output:y.npy"):
            archive.writestr(name, b"")


def golden_of_text(folder: Path) -> None:
    (folder / "golden.npz").write_text("no zip")


def climb(document: dict[str, object]) -> None:
    variants = document["variants"]
    assert isinstance(variants, list)
    variants[0]["model_path"] = "../outside.onnx"


def outside_model(folder: Path) -> None:
    (folder.parent / "outside.onnx").write_bytes(b"x")
    edit(climb)(folder)


FLAWS: list[tuple[str, Callable[[Path], None], str]] = [
    ("no compilation.json", drop("compilation.json"), "compilation.json cannot be read"),
    ("no golden samples", drop("golden.npz"), "golden.npz is missing"),
    ("golden samples without an output", golden_without_output, "lacks the golden array(s) output:y"),
    ("golden samples that are no archive", golden_of_text, "is not an .npz file"),
    ("more golden samples than devices read", golden_that_devices_do_not_read, "600000000 bytes"),
    ("golden samples packed by another method", golden_packed_without_bound, "packed in a way"),
    ("a link", link_golden, "is a link"),
    ("no model", drop("linux-x86_64/model.onnx"), "model.onnx is missing"),
    ("a model outside of the folder", outside_model, "lies outside of"),
    ("a broken baseline", lambda folder: (folder / "baseline.json").write_text("{}") and None, "schema: is missing"),
    ("a field of the wrong type", edit(lambda document: document.update(opsets=[])), "opsets: must be an object"),
    ("another component name", edit(lambda document: document.update(component_name="weather")), "component_name"),
    ("no platform", edit(lambda document: document.update(variants=[])), "variants"),
    ("another model's baseline", edit(lambda document: document.update(model_name="other")), "model_name: is 'linear'"),
]


@pytest.mark.parametrize(("break_it", "problem"), [flaw[1:] for flaw in FLAWS], ids=[flaw[0] for flaw in FLAWS])
def test_what_is_missing_is_named(make_folder: MakeFolder, break_it: Callable[[Path], None], problem: str) -> None:
    folder = make_folder()
    break_it(folder)
    with pytest.raises(CompilationIncompleteError) as caught:
        read_contents(folder)
    assert problem in str(caught.value)
    assert caught.value.remedy
