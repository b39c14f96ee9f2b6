"""For tests: a runtime and a model that hands itself over to it, as recipes of a few lines."""

from typing import Any

from tests.simulator.nucleus.world import World

RUNTIME, MODEL = "com.example.Runtime", "com.example.Model"
RUN = {"run": "echo running {work:path}\nexec sleep 1000"}
NOTIFY = (
    "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
    "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])"
)
NONCE = {"version": "1.0.0", "configurationUpdate": {"merge": {"nonce": "n1"}}}


def startup(word: str = "activated", exit_code: int = 0) -> dict[str, Any]:
    """The measured form of a hand-over: exec, own announcement only on success, exit code as the verdict."""
    program = f"print('{word}', flush=True)\n"
    program += "raise SystemExit(1)" if exit_code else NOTIFY.replace("; ", "\n")
    return {"startup": {"Script": f'exec python3 -c "{program}"', "Timeout": 5}}


def publish_pair(world: World, model_version: str = "1.0.0", exit_code: int = 0) -> None:
    world.publish(RUNTIME, "1.0.0", RUN)
    world.publish(
        MODEL, model_version, startup(f"activated {model_version}", exit_code),
        soft={RUNTIME: ">=1.0.0 <2.0.0"}, files={"bundle.zip": model_version.encode()},
    )  # fmt: skip
