"""The list of real operations in ``simulator/README.md``, made from the register so that it cannot go stale.

``python -m simulator.aws.published_list`` rewrites it; a test compares it. What is not in the list answers 501.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from simulator.aws.cloud import Cloud
from simulator.aws.operations import Source
from simulator.aws.server import SERVICES
from simulator.aws.unreal import CLOUDFORMATION_REAL

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- real operations: begin -->", "<!-- real operations: end -->"


def real_operations() -> dict[str, dict[str, Source]]:
    """What a new local cloud registers; nothing is started."""
    with tempfile.TemporaryDirectory() as folder:
        cloud = Cloud(Path(folder))
        for install in SERVICES:
            install(cloud)
        return cloud.operations.real()


def listing(real: Mapping[str, Mapping[str, Source]]) -> str:
    """The Markdown list, by service: what Edgewright performs, and which of moto's operations it lets through."""
    lines = []
    for service, operations in real.items():
        lines.append(f"- **{service}**")
        for source, label in ((Source.EDGEWRIGHT, "Edgewright"), (Source.MOTO, "moto")):
            names = [f"`{name}`" for name, performer in operations.items() if performer is source]
            if names:
                lines.append(f"  - {label}: {', '.join(names)}")
    types = ", ".join(f"`{name}`" for name in sorted(CLOUDFORMATION_REAL))
    lines.append(f"- **CloudFormation resource types** that are really created: {types}")
    return "\n".join(lines)


def rewritten(text: str, new: str) -> str:
    """The page with its list replaced.

    Raises:
        ValueError: the page has lost its markers.
    """
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page needs the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the list in the README."""
    argparse.ArgumentParser(prog="python -m simulator.aws.published_list", description=__doc__).parse_args(arguments)
    README.write_text(rewritten(README.read_text(), listing(real_operations())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
