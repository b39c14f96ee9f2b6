"""The real hand-over script, ``edge_component/contracts/handover.py``, under the nucleus: the measured table, case by case.

The runtime here is a stand-in of a few lines that speaks the admin socket; the real one is tried in the scenarios.
"""

import json
from pathlib import Path

from tests.simulator.nucleus.conftest import Run
from tests.simulator.nucleus.world import World, until

RUNTIME, MODEL = "com.edgewright.Runtime", "com.edgewright.model.Weather"
HANDOVER = Path(__file__).resolve().parents[3] / "edge_component" / "contracts" / "handover.py"

STAND_IN = b"""
import json, os, pathlib, socketserver
ACTIVE = pathlib.Path("active")
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            command = json.loads(line)
            version = command["arguments"]["version"]
            ok = version != "9.9.9"
            outcome = "already-active" if ACTIVE.exists() and ACTIVE.read_text() == version else "activated"
            if ok:
                ACTIVE.write_text(version)
            answer = {"schema": "edgewright.acknowledgement/1", "request_id": command["request_id"], "ok": ok,
                      "result": {"outcome": outcome} if ok else {}, "code": "" if ok else "golden-mismatch",
                      "message": "" if ok else "the golden test failed", "remedy": ""}
            self.wfile.write(json.dumps(answer).encode() + b"\\n")
if os.path.exists("admin.sock"):
    os.unlink("admin.sock")
socketserver.ThreadingUnixStreamServer("admin.sock", Handler).serve_forever()
"""


def publish_runtime(world: World, version: str = "1.0.0") -> None:
    steps = {"run": "cd {work:path}\nexec python3 {artifacts:path}/runtime.py"}
    world.publish(RUNTIME, version, steps, files={"runtime.py": STAND_IN})


def publish_model(world: World, version: str, timeout_s: float = 4.0) -> None:
    script = (
        "exec python3 {artifacts:path}/activate.py --socket {kernel:rootPath}/work/com.edgewright.Runtime/admin.sock "
        f"--bundle {{artifacts:path}}/bundle.zip --component {MODEL} --version {version} --timeout-s {timeout_s} --notify"
    )
    world.publish(
        MODEL, version, {"startup": {"Script": script, "Timeout": timeout_s + 1}}, soft={RUNTIME: ">=1.0.0 <2.0.0"},
        files={"bundle.zip": version.encode(), "activate.py": HANDOVER.read_bytes()},
    )  # fmt: skip


def test_the_runtime_not_yet_listening_at_hand_over(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_runtime(world)
        publish_model(world, "1.0.0")
        world.device.surprises.start_delay_s[RUNTIME] = 1.0
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"}) == "SUCCEEDED"
        assert world.log(MODEL) == f"edgewright: {MODEL} 1.0.0 activated\n"

    run(scenario)


def test_a_startup_that_runs_again_after_a_reboot_is_already_active(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_runtime(world)
        publish_model(world, "1.0.0")
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        await world.device.power_off()
        world.device = world.make_device()
        await world.device.start()
        await until(lambda: "already-active" in world.log(MODEL))
        await until(lambda: world.component(MODEL)["state"] == "RUNNING")

    run(scenario)


def test_a_refused_model_fails_the_deployment_with_its_reason_in_the_log(run: Run) -> None:
    async def scenario(world: World) -> None:
        publish_runtime(world)
        publish_model(world, "1.0.0")
        await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"})
        process_id = world.process_id(RUNTIME)
        publish_model(world, "9.9.9")
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "9.9.9"}) == "FAILED"
        assert world.log(MODEL).count("was refused (golden-mismatch): the golden test failed") == 3
        assert world.process_id(RUNTIME) == process_id
        assert (world.root / "work" / RUNTIME / "active").read_text() == "1.0.0"

    run(scenario)


def test_without_a_runtime_that_listens_the_deployment_fails_in_bounded_time(run: Run) -> None:
    async def scenario(world: World) -> None:
        world.publish(RUNTIME, "1.0.0", {"run": "exec sleep 1000"})
        publish_model(world, "1.0.0", timeout_s=0.3)
        assert await world.deploy({RUNTIME: "1.0.0", MODEL: "1.0.0"}) == "FAILED"
        assert world.log(MODEL).count("no runtime answered") == 3
        assert json.loads(world.source.recipes[MODEL, "1.0.0"])["ComponentName"] == MODEL

    run(scenario)
