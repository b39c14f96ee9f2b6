"""The import arrows of ARCHITECTURE.md, deny by default: what is not allowed here fails the build."""

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cloud", "edge_component", "simulator")
STANDARD = frozenset(sys.stdlib_module_names)

ALLOWED: dict[str, frozenset[str]] = {
    # from (longest prefix wins): what it may import beyond the standard library and its own package
    "edge_component.contracts": frozenset(),
    "edge_component.client": frozenset({"numpy"}),
    "edge_component": frozenset({"numpy", "onnxruntime", "awsiot", "awscrt", "cryptography", "google", "hpack"}),
    "edge_component.streams": frozenset({"numpy", "PIL", "cv2"}),
    "cloud": frozenset(
        {
            "edge_component.contracts", "boto3", "botocore", "fastapi", "starlette", "uvicorn", "pydantic", "httpx",
            "typer", "rich", "jinja2", "jsonschema", "numpy", "cryptography", "packaging", "yaml",
        }
    ),
    "cloud.compilation": frozenset({"edge_component.contracts", "numpy", "onnx", "onnxruntime", "onnxslim", "sympy"}),
    "simulator": frozenset(
        {
            "edge_component.contracts", "awscrt", "boto3", "botocore", "cryptography", "iotcore", "typer", "rich",
            "yaml", "numpy",
        }
    ),
    "simulator.aws": frozenset(
        {"edge_component.contracts", "moto", "werkzeug", "flask", "boto3", "botocore", "cryptography", "yaml"}
    ),
}  # fmt: skip

CONTRACTS_ONLY = ("edge_component.client",)
"""Rooms of the device that may use nothing of it but the contracts."""

KEEPS_TO = {
    "edge_component.rpc": (
        "edge_component.rpc",
        "edge_component.serving.listener",
        "edge_component.cores",
        "edge_component.polling",
    )
}
"""Rooms of the device that use of it only what is named: they could be a package of their own."""

REACH_AWS = ("cloud.aws", "cloud.cli", "cloud.infrastructure.setup", "cloud.publishing.keys", "cloud.publishing.stage")
"""The shells of the cloud side; every other room of it decides over values and ports."""


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            yield node.module or ""


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def rule_of(module: str) -> str:
    return max((rule for rule in ALLOWED if is_within(module, rule)), key=len)


def is_allowed(importer: str, imported: str) -> bool:
    rule = rule_of(importer)
    if imported.split(".", 1)[0] in STANDARD:
        return True
    if any(is_within(importer, room) for room in CONTRACTS_ONLY) and is_within(imported, "edge_component"):
        return is_within(imported, "edge_component.contracts") or is_within(imported, rule)
    own = rule if rule == "edge_component.contracts" else importer.split(".", 1)[0]
    return is_within(imported, own) or any(is_within(imported, name) for name in ALLOWED[rule])


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    importer = module_name(path)
    refused = sorted({imported for imported in imported_modules(path) if not is_allowed(importer, imported)})
    assert not refused, f"{importer} may not import {refused}; see ARCHITECTURE.md"


def test_only_the_nucleus_port_imports_awsiot() -> None:
    importers = {
        module_name(path)
        for path in (ROOT / "edge_component").rglob("*.py")
        if any(name.split(".")[0] in {"awsiot", "awscrt"} for name in imported_modules(path))
    }
    assert importers <= {"edge_component.nucleus"}


@pytest.mark.parametrize(("room", "allowed"), KEEPS_TO.items())
def test_a_room_that_keeps_to_itself_does(room: str, allowed: tuple[str, ...]) -> None:
    paths = [path for path in sources() if is_within(module_name(path), room)]
    assert paths
    for path in paths:
        used = {name for name in imported_modules(path) if is_within(name, "edge_component")}
        assert all(any(is_within(name, own) for own in allowed) for name in used), module_name(path)


def test_only_shells_of_the_cloud_side_reach_aws() -> None:
    for path in (ROOT / "cloud").rglob("*.py"):
        importer, imported = module_name(path), tuple(imported_modules(path))
        if not any(is_within(importer, shell) for shell in REACH_AWS):
            assert not any(is_within(name, "cloud.aws") for name in imported), importer
        if not is_within(importer, "cloud.aws"):
            assert not {name.split(".")[0] for name in imported} & {"boto3", "botocore"}, importer


def test_packages_import_nothing_at_their_door() -> None:
    for package in PACKAGES:
        assert list(imported_modules(ROOT / package / "__init__.py")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_not_even_late(package: str) -> None:
    """A circle that an import within a function hides is one all the same: neither module can be read alone."""
    paths = {module_name(path): path for path in sources() if is_within(module_name(path), package)}
    graph = {name: {other for other in imported_modules(path) if other in paths} for name, path in paths.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' → '.join(error.args[1])}")


def rooms_of_the_device() -> list[list[str]]:
    """The rows of ARCHITECTURE.md's table, from the top floor down; each a list of names or patterns."""
    lines = (ROOT / "ARCHITECTURE.md").read_text().splitlines()
    first = lines.index("| room | one sentence |") + 2
    return [
        re.findall(r"`([^`]+)`", row.split("|")[1]) for row in takewhile(lambda line: line[:1] == "|", lines[first:])
    ]


def floor_of(path: Path) -> int:
    """The one row that names a module of the device, or its folder."""
    within = path.relative_to(ROOT / "edge_component")
    name = within.parts[0] + ("/" if len(within.parts) > 1 else "")
    found = [floor for floor, row in enumerate(rooms_of_the_device()) if any(fnmatch(name, room) for room in row)]
    assert len(found) == 1, f"ARCHITECTURE.md names {name} in {len(found)} rows"
    return found[0]


def test_rooms_of_the_device_use_only_rooms_below_them() -> None:
    door = ROOT / "edge_component" / "__init__.py"
    floors = {module_name(path): floor_of(path) for path in (ROOT / "edge_component").rglob("*.py") if path != door}
    for path in (ROOT / "edge_component").rglob("*.py"):
        importer = module_name(path)
        for imported in imported_modules(path):
            if imported in floors and not any(
                is_within(importer, room) and any(is_within(imported, name) for name in kept)
                for room, kept in KEEPS_TO.items()
            ):
                assert floors[imported] >= floors[importer], f"{importer} uses {imported}, which lies above it"
