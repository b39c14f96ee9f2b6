"""The C client, built by ``cc`` alone, against the real door: it answers as the Python client does, and fails as typed."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import edge_component.client
from edge_component.contracts.manifest import TensorSpec
from tests.edge_component.bundle_factory import scale_model, serialized
from tests.edge_component.graphs import endless_model
from tests.edge_component.serving.conftest import ROW, Door, MakeDoor
from tests.edge_component.serving.lying_runtime import lying_runtime
from tests.edge_component.waiting import wait_until

SOURCES = Path(edge_component.client.__file__).parent / "c"
FLAGS = (
    "-std=c11",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pedantic",
    "-Wconversion",
    "-pthread",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover",
)
Ask = Callable[..., subprocess.CompletedProcess[str]]


def build(program: Path, source: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler: apt install gcc libc6-dev")
    arguments = [compiler, *FLAGS, f"-I{SOURCES}", "-o", str(program), str(SOURCES / "edgewright.c"), str(source)]
    built = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


CPP = """
#include "edgewright.h"
int main(int, char **paths) {
    edgewright_client client = {};
    edgewright_channel channel = {};
    if (edgewright_connect(&client, paths[1], 20000)) return 1;
    int first = client.socket;
    if (edgewright_connect(&client, paths[1], 20000) || client.socket != first) return 2; /* hung up before */
    if (edgewright_open(&client, &channel, "scale", nullptr, 0, 0))
        return 1;
    channel.inputs[0].dimensions[0] = 0;
    int result = edgewright_infer(&client, &channel, 0);
    edgewright_close_channel(&client, &channel);
    edgewright_close(&client);
    return result;
}
"""


def test_a_program_in_cpp_uses_it_too(door: Door, tmp_path: Path) -> None:
    compilers = [shutil.which(name) for name in ("cc", "c++")]
    if None in compilers:
        pytest.skip("there is no C++ compiler: apt install g++")
    (tmp_path / "main.cpp").write_text(CPP)
    warned = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    for command_line in (
        [compilers[0], "-std=c11", *warned, "-c", SOURCES / "edgewright.c", "-o", tmp_path / "edgewright.o"],
        [compilers[1], "-std=c++17", *warned, f"-I{SOURCES}", tmp_path / "main.cpp", tmp_path / "edgewright.o", "-o",
         tmp_path / "main"],
    ):  # fmt: skip
        built = subprocess.run([str(word) for word in command_line], capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
    assert subprocess.run([tmp_path / "main", door.path], timeout=60).returncode == 0


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("c") / "example", SOURCES / "example.c")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("c") / "cases", Path(__file__).with_name("c_client_cases.c"))


@pytest.fixture
def ask(example: Path, tmp_path: Path) -> Ask:
    def run(door: Door, model: str, *options: str, **inputs: np.ndarray) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(example, tmp_path, door, model, *options, **inputs),
                              capture_output=True, text=True, check=False, timeout=60)  # fmt: skip

    return run


def command(example: Path, folder: Path, door: Door, model: str, *options: str, **inputs: np.ndarray) -> list[str]:
    arguments = [str(example), str(door.path), model, *options]
    for name, array in inputs.items():
        (folder / name).write_bytes(array.tobytes())
        arguments.append(f"{name}:{'x'.join(map(str, array.shape))}={folder / name}")
    return arguments


def outputs_of(printed: str) -> dict[str, tuple[tuple[int, ...], list[float]]]:
    lines = printed.splitlines()
    found = {}
    for at, line in enumerate(lines):
        if line.startswith("output "):
            _, name, *dimensions = line.split(" ")
            found[name] = tuple(map(int, dimensions)), [float(number) for number in lines[at + 1].split()]
    return found


@pytest.mark.parametrize("rows", [1, 2, 1_000, 50_000])
def test_it_answers_as_the_python_client_does(door: Door, ask: Ask, rows: int) -> None:
    batch = np.random.default_rng(rows).normal(0, 1e3, (rows, 3)).astype(np.float32)
    expected = door.client().infer("scale", {"x": batch})
    answer = ask(door, "scale", x=batch)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == f"model scale 1.0.0 {expected.model.digest}"
    shape, numbers = outputs_of(answer.stdout)["y"]
    assert shape == (rows, 3)
    np.testing.assert_array_equal(np.array(numbers, np.float32).reshape(shape), expected.outputs["y"])


@pytest.mark.parametrize("rows", [1, 50_000], ids=["two slots", "one slot"])
def test_inputs_written_once_in_place_are_asked_again_and_again(door: Door, ask: Ask, rows: int) -> None:
    batch = np.random.default_rng(rows).normal(0, 1e3, (rows, 3)).astype(np.float32)
    answer = ask(door, "scale", "--in-place", "--warm", "4", "--repeat", "5", x=batch)
    assert answer.returncode == 0, answer.stderr
    assert "asked 5 times" in answer.stdout
    assert door.router.totals("scale").answered_count == 9
    np.testing.assert_array_equal(np.array(outputs_of(answer.stdout)["y"][1], np.float32), batch.ravel() * 2)


@pytest.mark.parametrize(
    ("element", "dtype"),
    [(TensorProto.INT64, "int64"), (TensorProto.INT32, "int32"), (TensorProto.DOUBLE, "float64"),
     (TensorProto.UINT8, "uint8"), (TensorProto.BOOL, "bool"), (TensorProto.INT8, "int8"), (TensorProto.INT16, "int16"),
     (TensorProto.UINT16, "uint16"), (TensorProto.UINT32, "uint32"), (TensorProto.UINT64, "uint64")],
)  # fmt: skip
def test_other_types_and_a_scalar(door: Door, ask: Ask, element: int, dtype: str) -> None:
    for shape in ((), (3,)):
        names = [f"n{axis}" for axis in range(len(shape))]
        x, y = (helper.make_tensor_value_info(name, element, names) for name in "xy")
        model = serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
        spec = TensorSpec("x", dtype, (-1,) * len(shape))
        door.put("1.0.0", model, (spec,), (replace(spec, name="y"),), name=f"{dtype}-{len(shape)}")
        sent = np.array([0, 1, 100][: max(int(np.prod(shape)), 1)], dtype).reshape(shape)
        answer = ask(door, f"{dtype}-{len(shape)}", x=sent)
        assert answer.returncode == 0, answer.stderr
        assert outputs_of(answer.stdout)["y"] == (shape, [float(number) for number in sent.ravel()])


def test_numbers_that_c_has_no_type_for_are_not_printed_as_others(door: Door, ask: Ask) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["n", 3]) for name in "xy")
    model = serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
    spec = TensorSpec("x", "float16", (-1, 3))
    door.put("1.0.0", model, (spec,), (replace(spec, name="y"),), name="half")
    answer = ask(door, "half", x=np.ones((1, 3), np.float16))
    assert (answer.returncode, answer.stdout.splitlines()[1:]) == (0, ["output y 1 3", "float16 is not printed here"])


def test_a_file_of_another_size_than_its_dimensions_say_is_refused(door: Door, example: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(ROW.tobytes())
    arguments = [str(example), str(door.path), "scale", f"x:2x3={tmp_path / 'x'}"]
    assert subprocess.run(arguments, capture_output=True, timeout=60).returncode == 3
    assert subprocess.run([*arguments, "--repeat", "often"], capture_output=True, timeout=60).returncode == 2


def test_refusals_have_the_same_codes(door: Door, ask: Ask) -> None:
    door.put("1.0.0", scale_model(2.0), name="strict", nan_policy="refuse")
    for model, given, code in (
        ("nobody", ROW, "unknown-model"),
        ("scale", np.ones((1, 4), np.float32), "input-shape"),
        ("strict", ROW * np.nan, "input-nan"),
    ):
        answer = ask(door, model, x=given)
        assert answer.returncode == 14, answer
        assert answer.stderr.startswith(f"{code}: ")
    assert ask(door, "scale", z=ROW).returncode == 3
    assert ask(door, "scale", x=ROW[0]).returncode == 3


def test_a_run_past_its_deadline_is_late(open_door: MakeDoor, ask: Ask) -> None:
    door = open_door(run_s_max=0.2)
    door.put("1.0.0", endless_model(), name="endless")
    answer = ask(door, "endless", x=ROW)
    assert (answer.returncode, answer.stderr.split(":")[0]) == (12, "deadline-exceeded")


def test_an_output_that_outgrows_its_room_is_fetched_in_a_larger_channel(door: Door, ask: Ask) -> None:
    x = helper.make_tensor_value_info("shape", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    model = serialized(helper.make_graph([helper.make_node("ConstantOfShape", ["shape"], ["y"])], "g", [x], [y]))
    door.put("1.0.0", model, (TensorSpec("shape", "int64", (1,)),), (TensorSpec("y", "float32", (-1,)),), name="grow")
    answer = ask(door, "grow", shape=np.array([100_000]))
    assert answer.returncode == 0, answer.stderr
    assert outputs_of(answer.stdout)["y"][0] == (100_000,)


def test_it_follows_swaps_and_a_door_that_opens_anew(
    door: Door, open_door: MakeDoor, example: Path, tmp_path: Path
) -> None:
    arguments = command(example, tmp_path, door, "scale", "--repeat", "60000", x=ROW)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
        before = 0
        for minor in (1, 2, 3):
            wait_until(lambda before=before: door.router.totals("scale").answered_count > before + 500)
            door.scale(f"1.{minor}.0", minor + 2.0)
            before = door.router.totals("scale").answered_count
        wait_until(lambda: door.router.totals("scale").answered_count > before + 500)
        door.listener.stop(2.0)
        again = open_door(door.folder / "elsewhere")
        again.scale("1.4.0", 7.0)
        (again.folder / "infer.sock").rename(door.path)
        printed, told = asking.communicate(timeout=60)
    assert asking.returncode == 0, told
    assert printed.startswith("model scale 1.4.0 ")
    assert outputs_of(printed)["y"] == ((1, 3), [7.0, 14.0, 21.0])
    assert "4 swaps seen" in printed or "3 swaps seen" in printed, printed
    connected = re.search(r"connected (\d+) times", printed)
    assert connected is not None
    assert int(connected[1]) >= 2, "the door opened anew; how often it was tried in between is its own affair"


@pytest.mark.parametrize("case", ["forked", "reopened", "untouched"])
def test_cases(door: Door, cases: Path, case: str) -> None:
    """What they are about is told in ``c_client_cases.c``."""
    ended = subprocess.run([cases, case, door.path], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           check=False, timeout=60)  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    wait_until(lambda: door.listener.connections_count() == 0)
    assert door.router.open_tally_count() == 0


def test_signals_do_not_make_a_wait_endless(cases: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen(1)
        ended = subprocess.run([cases, "interrupted", tmp_path / "mute.sock"], capture_output=True, text=True,
                               check=False, timeout=60)  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("lies", [0.1, 0.5])
def test_a_runtime_that_lies_gets_no_further_than_a_result(cases: Path, tmp_path: Path, lies: float) -> None:
    with lying_runtime(tmp_path / "infer.sock", seed=5, lies=lies):
        ended = subprocess.run([cases, "lied_to", tmp_path / "infer.sock"], capture_output=True, text=True,
                               check=False, timeout=300)  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("compiler", ["cc", "clang"])
@pytest.mark.parametrize("language", ["c89", "c99", "c11", "c++98", "c++17"])
def test_the_header_is_clean_in_every_language_that_includes_it(compiler: str, language: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}: apt install gcc g++ clang")
    warned = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic", "-fsyntax-only", f"-std={language}"]
    kind = "c++" if "++" in language else "c"
    built = subprocess.run([compiler, *warned, f"-I{SOURCES}", "-x", kind, "-"], input='#include "edgewright.h"\nint nothing;\n',
                           capture_output=True, text=True, check=False)  # fmt: skip
    if kind == "c++" and "cannot execute" in built.stderr:
        pytest.skip("there is no C++ compiler: apt install g++")
    assert (built.returncode, built.stderr) == (0, "")
