import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import answers, classifier, doubler, model, pack, tensor, write_artifact, write_card
from onnx import TensorProto, helper

from cloud.compilation.admission import DTYPE_BY_CODE
from cloud.compilation.report import Report
from cloud.compilation.result import Compilation
from cloud.compilation.samples import read_samples
from cloud.compilation.stage import REFUSED_EXIT_CODE, Order, compile_model
from edge_component.contracts.manifest import PLATFORMS

ROOT = Path(__file__).resolve().parents[3]


def compiled(source: Path, output: Path) -> tuple[Report, Compilation]:
    report = compile_model(Order(source, output))
    assert not report.was_refused, report.to_text()
    return report, Compilation.load(output)


def refusal(source: Path, output: Path) -> Report:
    report = compile_model(Order(source, output))
    assert report.was_refused
    assert not (output / "compilation.json").exists()
    assert json.loads((output / "report.json").read_text())["sentence"] == report.sentence
    assert "Traceback" not in (output / "report.txt").read_text()
    return report


def test_int8_is_chosen_where_it_is_smaller_and_near(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", classifier())
    report, compilation = compiled(source, tmp_path / "out")
    assert [(variant.platform, variant.precision, variant.reason) for variant in compilation.variants] == [
        (platform, "int8", "") for platform in PLATFORMS
    ]
    gates = {verdict.gate for verdict in compilation.variants[0].verdicts if verdict.precision == "int8"}
    assert gates == {"loads", "golden", "output_error:p", "task_metric", "size"}
    assert "test is compiled: int8 for linux/x86_64, int8 for linux/aarch64" in report.to_text()


def test_fp32_alone_is_what_one_gets_who_asks_for_it(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", classifier())
    report = compile_model(Order(source, tmp_path / "out", precision="fp32"))
    assert not report.was_refused
    variants = Compilation.load(tmp_path / "out").variants
    assert {(variant.precision, variant.reason) for variant in variants} == {
        ("fp32", "int8 was not tried: fp32 was asked for")
    }
    assert {verdict.precision for variant in variants for verdict in variant.verdicts} == {"fp32"}
    models = {(tmp_path / "out" / variant.model_path).read_bytes() for variant in variants}
    assert len(models) == 1, "the same graph for every platform"


def test_a_device_that_runs_the_variant_passes_its_golden_test(tmp_path: Path) -> None:
    _, compilation = compiled(write_artifact(tmp_path / "model", classifier()), tmp_path / "out")
    golden = read_samples(tmp_path / "out" / "golden.npz")
    for variant in compilation.variants:
        got = answers(tmp_path / "out" / variant.model_path, golden.inputs["x"])
        allowed = variant.golden.atol + variant.golden.rtol * np.abs(golden.outputs["p"])
        assert (np.abs(got - golden.outputs["p"]) <= allowed).all()


def test_each_platform_has_its_own_int8(tmp_path: Path) -> None:
    _, compilation = compiled(write_artifact(tmp_path / "model", classifier()), tmp_path / "out")
    intel, arm = (tmp_path / "out" / variant.model_path for variant in compilation.variants)
    assert intel.read_bytes() != arm.read_bytes()


def test_where_int8_saves_nothing_fp32_is_chosen_and_the_reason_kept(tmp_path: Path) -> None:
    _, compilation = compiled(write_artifact(tmp_path / "model", classifier(width=4)), tmp_path / "out")
    assert {variant.precision for variant in compilation.variants} == {"fp32"}
    assert "of fp32's; more than the allowed 0.9" in compilation.variants[0].reason
    assert any(not verdict.passed for verdict in compilation.variants[0].verdicts)


@pytest.mark.parametrize(
    ("calibrated", "sentence"),
    [(False, "no calibration samples"), (True, "holds no Conv, ConvTranspose, Gemm, MatMul")],
)
def test_where_int8_cannot_be_made_the_reason_is_kept(tmp_path: Path, calibrated: bool, sentence: str) -> None:
    source = write_artifact(tmp_path / "model", doubler(), calibrated=calibrated, labelled=False)
    _, compilation = compiled(source, tmp_path / "out")
    assert {variant.precision for variant in compilation.variants} == {"fp32"}
    assert sentence in compilation.variants[0].reason


def test_an_archive_of_a_training_job_is_the_same_as_its_folder(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", classifier())
    (tmp_path / "input").mkdir()
    pack(source, tmp_path / "input" / "model.tar.gz")
    compiled(source, tmp_path / "one")
    compiled(tmp_path / "input", tmp_path / "two")
    for name in ("linux-x86_64/model.onnx", "linux-aarch64/model.onnx", "golden.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_lineage_and_metrics_are_kept(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", classifier())
    compile_model(Order(source, tmp_path / "out", lineage={"training_job_arn": "arn:x"}))
    assert dict(Compilation.load(tmp_path / "out").lineage) == {
        "training_job_arn": "arn:x",
        "metrics": {"log_loss": 0.5},
    }


def test_a_refusal_leaves_no_older_compilation_to_publish(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", doubler(), labelled=False)
    compiled(source, tmp_path / "out")
    (source / "model.onnx").write_bytes(b"hello")
    refusal(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"hello"), "not-onnx", "does not parse"),
        (lambda folder: (folder / "golden.npz").unlink(), "samples", "golden.npz is missing"),
        (lambda folder: (folder / "model.onnx").unlink(), "training-artifact", "model.onnx is missing"),
        (lambda folder: (folder / "model.json").write_text("{"), "training-artifact", "model.json: is not JSON"),
        (lambda folder: write_card(folder, nan_policy="maybe"), "training-artifact", "nan_policy: 'maybe'"),
        (lambda folder: (folder / "baseline.json").write_text("{}"), "training-artifact", "baseline.json: schema"),
        (
            lambda folder: write_card(folder, features=[{"name": "a", "input": "x", "index": 3}]),
            "training-artifact",
            "'a' watches column 3 of 'x', which is not there",
        ),
        (
            lambda folder: write_card(folder, features=[{"name": "a", "input": "z", "index": 0}]),
            "training-artifact",
            "'a' watches column 0 of 'z', which is not there",
        ),
        (
            lambda folder: write_card(folder, task={"kind": "regression", "output": "z", "index": 0, "metric": "rmse"}),
            "training-artifact",
            "column 0 of output 'z', which is not there",
        ),
    ],
)
def test_a_bad_artifact_is_refused_with_its_file_and_field(tmp_path: Path, change, code: str, sentence: str) -> None:
    source = write_artifact(tmp_path / "model", doubler(), labelled=False)
    change(source)
    report = refusal(source, tmp_path / "out")
    assert report.refused_code == code
    assert sentence in report.sentence


@pytest.mark.parametrize(
    ("kind", "shape", "index", "sentence"),
    [
        (TensorProto.FLOAT, [], 0, ""),
        (TensorProto.INT64, ["n"], 0, ""),
        (TensorProto.FLOAT, ["n"], 1, "watches column 1 of 'x', which is not there"),
        (TensorProto.STRING, ["n"], 0, "watches column 0 of 'x', which is string and cannot be counted"),
    ],
)
def test_what_is_watched_is_what_a_device_can_count(
    tmp_path: Path, kind: int, shape: list, index: int, sentence: str
) -> None:
    graph = model(
        [helper.make_node("Identity", ["x"], ["y"])], [tensor("x", shape, kind)], [tensor("y", shape, kind)], []
    )
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    samples = np.ones((2, *([1] * len(shape))), "U1" if kind == TensorProto.STRING else DTYPE_BY_CODE[kind])
    golden(tmp_path, samples, samples)
    write_card(tmp_path, features=[{"name": "a", "input": "x", "index": index}])
    report = compile_model(Order(tmp_path, tmp_path / "out"))
    assert sentence in report.sentence
    assert report.was_refused is bool(sentence)


def golden(source: Path, inputs: np.ndarray, outputs: np.ndarray) -> None:
    np.savez(source / "golden.npz", **{"input:x": inputs, "output:y": outputs})


def test_golden_outputs_that_the_graph_does_not_give_refuse_it(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", doubler(), labelled=False)
    golden(source, np.ones((2, 1, 3), np.float32), np.full((2, 1, 3), 2.5, np.float32))
    report = refusal(source, tmp_path / "out")
    assert report.refused_code == "gate"
    assert "fp32: the golden outputs differ by" in report.sentence


def test_too_many_golden_samples_are_refused(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", doubler(), labelled=False)
    golden(source, np.ones((65, 1, 3), np.float32), np.full((65, 1, 3), 2, np.float32))
    assert "64 are allowed" in refusal(source, tmp_path / "out").sentence


def test_only_known_files_are_taken_out_of_an_archive(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", doubler(), labelled=False)
    (source / "evil.sh").write_text("boo")
    (tmp_path / "input").mkdir()
    pack(source, tmp_path / "input" / "model.tar.gz")
    from cloud.compilation.trained import unpack

    (tmp_path / "work").mkdir()
    unpack(tmp_path / "input", tmp_path / "work")
    assert not (tmp_path / "work" / "evil.sh").exists()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"hello")
    assert "not an archive of a training job" in refusal(tmp_path, tmp_path / "out").sentence


def run_stage(source: Path, output: Path, message: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloud.compilation.stage", "--input", str(source), "--output", str(output)]
    command += ["--platform", "linux/aarch64", "--message", str(message)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_as_a_job_it_compiles_what_was_asked(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", classifier())
    done = run_stage(source, tmp_path / "out", tmp_path / "message", EDGEWRIGHT_LINEAGE_TRAINING_JOB_ARN="arn:x")
    assert done.returncode == 0, done.stderr
    compilation = Compilation.load(tmp_path / "out")
    assert [variant.platform for variant in compilation.variants] == ["linux/aarch64"]
    assert compilation.lineage["training_job_arn"] == "arn:x"
    assert not (tmp_path / "message").exists()


def test_as_a_job_it_refuses_with_a_sentence_in_the_exit_message(tmp_path: Path) -> None:
    source = write_artifact(tmp_path / "model", doubler())
    (source / "model.onnx").write_bytes(b"hello")
    done = run_stage(source, tmp_path / "out", tmp_path / "message")
    assert done.returncode == REFUSED_EXIT_CODE
    assert "test is refused: the file is not an ONNX model" in (tmp_path / "message").read_text()
    assert "Traceback" not in done.stderr


def test_the_container_needs_the_compile_extra_alone() -> None:
    code = "import cloud.compilation.stage, sys; print(sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert not {"boto3", "botocore", "typer", "rich", "sklearn", "fastapi"} & set(
        json.loads(done.stdout.replace("'", '"'))
    )


def test_a_trained_models_outputs_are_promised_as_they_come_out(tmp_path: Path) -> None:
    graph = doubler()
    graph.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    source = write_artifact(tmp_path / "model", graph, labelled=False)
    golden(source, np.ones((2, 5, 3), np.float32), np.full((2, 5, 3), 2, np.float32))
    report, compilation = compiled(source, tmp_path / "out")
    assert compilation.outputs[0].shape == (-1, 3)
    assert any("output y is declared as (1, 3) and answers otherwise" in note for note in report.notes)
