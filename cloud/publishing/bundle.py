"""From a compilation folder and a version to one bundle for each platform.

The failure this exists for: a bundle that lacks what the device will ask of it (golden samples, above all), or one
rebuilt later with other bytes under the same version. Everything that varies by itself (release number, times, the
signature) comes in as a value, so that the same inputs always give the same bundle.

Reading the folder is one function, :func:`read_contents`; the rest is pure. It does not upload; see publish.py.
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cloud.compilation.result import COMPILATION_FILE, Compilation, Variant
from cloud.digests import file_sha256
from cloud.names import MODEL_COMPONENT_PATTERN
from cloud.publishing.archive import write_archive
from cloud.publishing.errors import CompilationIncompleteError
from edge_component.contracts.baseline import Baseline
from edge_component.contracts.errors import ContractError
from edge_component.contracts.limits import LIMITS
from edge_component.contracts.manifest import (
    BASELINE_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    BundledFile,
    Caps,
    Manifest,
    bundle_digest,
)

MEMORY_FACTOR = 4
COMPILE_REMEDY = "Run `edgewright compile` again, and publish the folder that it writes."


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a publication gives a version beside its bytes; kept in the publication record.

    Attributes:
        release: monotonic per component, from 1.
        created_at, expires_at: UTC; see the manifest contract.
    """

    release: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Contents:
    """One platform's files, read and checked; ``files`` is name in the bundle to path on this machine."""

    variant: Variant
    files: Mapping[str, Path]
    described: Mapping[str, BundledFile]


@dataclass(frozen=True, slots=True)
class Bundle:
    """One platform's bundle, all but its signature."""

    platform: str
    precision: str
    manifest: bytes
    files: Mapping[str, Path]
    digests: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The bundle's identity: SHA-256 of its manifest, which names every other file."""
        return bundle_digest(self.manifest)


def read_contents(folder: Path) -> tuple[Compilation, tuple[Contents, ...]]:
    """Read a compilation folder and check that each of its platforms has all that a bundle needs.

    Raises:
        CompilationIncompleteError: naming the file or field.
    """
    try:
        compilation = Compilation.load(folder)
    except OSError as error:
        raise CompilationIncompleteError(
            f"{folder / COMPILATION_FILE} cannot be read: {error.strerror}", COMPILE_REMEDY
        ) from error
    except ContractError as error:
        raise CompilationIncompleteError(f"{folder / COMPILATION_FILE}: {error}", COMPILE_REMEDY) from error
    _check_names(compilation)
    shared = _shared_files(folder, compilation)
    contents = tuple(
        _describe(variant, {MODEL_FILE: _regular_file(folder, variant.model_path), **shared})
        for variant in sorted(compilation.variants, key=lambda variant: variant.platform)
    )
    return compilation, contents


def make_bundle(compilation: Compilation, contents: Contents, version: str, stamp: Stamp) -> Bundle:
    """The manifest over the contents. Pure.

    Raises:
        CompilationIncompleteError: no device could read it.
    """
    manifest = Manifest(
        component_name=compilation.component_name,
        model_name=compilation.model_name,
        version=version,
        release=stamp.release,
        platform=contents.variant.platform,
        created_at=stamp.created_at,
        expires_at=stamp.expires_at,
        precision=contents.variant.precision,
        opsets=compilation.opsets,
        inputs=compilation.inputs,
        outputs=compilation.outputs,
        files=contents.described,
        golden=contents.variant.golden,
        caps=_caps(contents.described[MODEL_FILE].size_bytes),
        features=compilation.features,
        watched_outputs=compilation.watched_outputs,
        nan_policy=compilation.nan_policy,
        lineage=compilation.lineage,
    ).to_bytes()
    _check_readable(manifest)
    digests = {name: file.sha256 for name, file in contents.described.items()}
    return Bundle(
        platform=contents.variant.platform,
        precision=contents.variant.precision,
        manifest=manifest,
        files=contents.files,
        digests={**digests, MANIFEST_FILE: bundle_digest(manifest)},
    )


def _caps(model_bytes: int) -> Caps:
    """What loading may take on the device: more than usual for a large graph, since up to 3.3 times its file was measured."""
    return Caps(memory_bytes_max=max(Caps().memory_bytes_max, MEMORY_FACTOR * model_bytes))


def _check_readable(manifest: bytes) -> None:
    """What the device will read must be readable."""
    try:
        Manifest.from_bytes(manifest)
    except ContractError as error:
        raise CompilationIncompleteError(
            f"{MANIFEST_FILE}: {error}",
            "Where it is too large: give the model fewer inputs and outputs or shorter names, or watch fewer columns.",
        ) from error


def archive_name(component_name: str, version: str, platform: str) -> str:
    """``<Name>-<version>-<os>-<arch>.zip``."""
    return f"{component_name.rpartition('.')[2]}-{version}-{platform.replace('/', '-')}.zip"


def write_bundle(bundle: Bundle, signature: bytes, path: Path) -> str:
    """Pack a signed bundle into one reproducible zip, files at its root; returns the zip's SHA-256 in hex."""
    return write_archive(path, {**bundle.files, MANIFEST_FILE: bundle.manifest, SIGNATURE_FILE: signature})


def _check_names(compilation: Compilation) -> None:
    if not MODEL_COMPONENT_PATTERN.fullmatch(compilation.component_name):
        raise CompilationIncompleteError(
            f"component_name: {compilation.component_name!r} is not com.edgewright.model.<Name>, <Name> of letters and digits",
            "Correct component_name in model.toml and compile again.",
        )
    platforms = [variant.platform for variant in compilation.variants]
    if not platforms or len(set(platforms)) != len(platforms):
        raise CompilationIncompleteError(
            f"variants: each platform is needed exactly once, not {platforms}", COMPILE_REMEDY
        )


def _shared_files(folder: Path, compilation: Compilation) -> dict[str, Path]:
    golden = _regular_file(folder, GOLDEN_FILE)
    _check_golden(golden, compilation)
    if not (folder / BASELINE_FILE).exists():
        return {GOLDEN_FILE: golden}
    baseline = _regular_file(folder, BASELINE_FILE)
    _check_baseline(baseline, compilation)
    return {GOLDEN_FILE: golden, BASELINE_FILE: baseline}


def _check_golden(path: Path, compilation: Compilation) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise CompilationIncompleteError(f"{path} is not an .npz file: {error}", COMPILE_REMEDY) from error
    present = {entry.filename.removesuffix(".npy") for entry in entries}
    wanted = {f"input:{spec.name}" for spec in compilation.inputs} | {
        f"output:{spec.name}" for spec in compilation.outputs
    }
    if missing := sorted(wanted - present):
        raise CompilationIncompleteError(
            f"{path} lacks the golden array(s) {', '.join(missing)}",
            "Give a sample of every input and the expected value of every output, and compile again.",
        )
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise CompilationIncompleteError(f"{path} is packed in a way that devices do not read", COMPILE_REMEDY)
    size_bytes = sum(entry.file_size for entry in entries)
    if size_bytes > LIMITS.golden_bytes_max:
        raise CompilationIncompleteError(
            f"{path} unpacks to {size_bytes} bytes; devices read at most {LIMITS.golden_bytes_max}",
            "Give fewer samples, and compile again.",
        )


def _check_baseline(path: Path, compilation: Compilation) -> None:
    try:
        baseline = Baseline.from_bytes(path.read_bytes())
    except ContractError as error:
        raise CompilationIncompleteError(f"{path}: {error}", COMPILE_REMEDY) from error
    if baseline.model_name != compilation.model_name:
        raise CompilationIncompleteError(
            f"{path}: model_name: is {baseline.model_name!r}, the model's is {compilation.model_name!r}", COMPILE_REMEDY
        )


def _regular_file(folder: Path, name: str) -> Path:
    path = folder / name
    if any(part.is_symlink() for part in _within(folder, path)):
        raise CompilationIncompleteError(f"{path} is a link; a bundle holds only its own files", COMPILE_REMEDY)
    if not path.is_file():
        raise CompilationIncompleteError(f"{path} is missing", COMPILE_REMEDY)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CompilationIncompleteError(f"{name!r} lies outside of {folder}", COMPILE_REMEDY)
    return path


def _within(folder: Path, path: Path) -> Iterator[Path]:
    while path not in (folder, path.parent):
        yield path
        path = path.parent


def _describe(variant: Variant, files: Mapping[str, Path]) -> Contents:
    described = {name: BundledFile(file_sha256(path), path.stat().st_size) for name, path in sorted(files.items())}
    size_bytes = sum(file.size_bytes for file in described.values())
    if size_bytes > LIMITS.bundle_bytes_max:
        raise CompilationIncompleteError(
            f"{variant.platform}: the bundle's files take {size_bytes} bytes; at most {LIMITS.bundle_bytes_max} are allowed",
            "Compile a smaller model.",
        )
    return Contents(variant, files, described)
