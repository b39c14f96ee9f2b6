"""This machine's platform, in the manifest's words."""

import platform

_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def platform_name() -> str:
    """Such as ``linux/x86_64``; a machine that no bundle is made for keeps its own name."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}/{_MACHINES.get(machine, machine)}"
