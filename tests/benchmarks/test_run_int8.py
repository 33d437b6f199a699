"""The INT8 benchmark on a tiny network with ONNX Runtime as the only peer, its table, and its failures as rows."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import int8_candidates, int8_judge, report, run_int8
from benchmarks.int8_candidates import Limits, make_peer, run_limited, variants_of
from benchmarks.int8_feeds import make_samples, read_samples, write_samples
from benchmarks.int8_judge import Candidate, Judged, Row, judge, judge_all
from benchmarks.int8_report import drop_interval, format_int8
from benchmarks.plain import read_plain
from hwc.profile.measure import MeasureOptions

MACHINE = {
    "processor": "A CPU", "cores_allowed": "2", "load": "0.01", "time_utc": "2026-01-02T03:04:05Z",
    "versions": "hwc 1, openvino 2", "command": "python -m benchmarks.run_int8",
}  # fmt: skip
QUICK = MeasureOptions(warmup_s=0, max_warmup_s=0.01, duration_s=1e-6, window=2, pause_s=0, max_rounds=6)
MS = 1_000_000


def save_net(path: Path) -> None:
    """Conv, Relu, average pool and a fully connected layer to four classes, 1x3x8x8."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 0.1, 8).astype(np.float32),
        "fc": rng.normal(0, 0.5, (4, 8)).astype(np.float32),
        "fb": np.zeros(4, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "fc", "fb"], ["y"], transB=1, name="gemm"),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))


def some_samples(count: int, seed: int):
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 1, (count, 1, 3, 8, 8)).astype(np.float32)
    return make_samples("class", [({"x": image}, np.array(0)) for image in images])


@pytest.fixture
def work(tmp_path) -> Path:
    save_net(tmp_path / "plain.onnx")
    write_samples(tmp_path / "calibration.npz", some_samples(20, 1))
    write_samples(tmp_path / "validation.npz", some_samples(12, 2))
    return tmp_path


def ort(work: Path, variant: str = "minmax") -> Candidate:
    python = Path(sys.executable)
    return make_peer("ort", variant, python, work / "plain.onnx", work / "calibration.npz", work, Limits(120))


def made_row(**more) -> Row:
    """Ten samples; INT8 loses one, and takes half of the time of FP32."""
    right, lost = (1.0,) * 10, (1.0,) * 9 + (0.0,)
    judged = (
        Judged("fp32", 0.0, 4_000_000, right, right, (120.0,) * 10, -1, -1, (2 * MS,) * 12, True),
        Judged("peer", 7.4, 1_250_000, lost, lost, (20.0,) * 9 + (30.0,), 0.95, 31.0, (1 * MS,) * 12, False),
        Judged("other", 3.0, problem="exit code 1: no | such\nlayer"),
        Judged("hwc", 5.0, 1_000_000, right, right, (25.0,) * 10, 1.0, 26.0, (MS // 2,) * 12, True),
    )
    fields = {"calibration": 20, "validation": 10, "note": "a note", "block": 2, "threads": 2, "load": "0.1 -> 0.2"}
    return Row("net", "class", **{**fields, "judged": judged, **more})


def test_a_peer_is_made_judged_and_timed(work):
    candidate = ort(work)
    assert candidate.problem == ""
    kinds = {node.op_type for node in onnx.load(candidate.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    row = Row("net", "class", 20, threads=1)
    row = judge_all(row, read_plain(work / "plain.onnx"), [candidate], read_samples(work / "validation.npz"), QUICK)
    fp32, one = row.judged
    assert (fp32.name, one.name, row.validation) == ("fp32", "ort-minmax", 12)
    assert set(fp32.agreements) == {1.0}
    assert len(one.scores) == len(one.sqnr_db) == 12
    # Eight bits on a network of two layers: neither exact nor broken.
    assert 15 < np.mean(one.sqnr_db) < 60
    assert 15 < one.exact_sqnr_db < 60
    assert one.size_bytes == Path(candidate.path).stat().st_size
    assert row.ratio(one, fp32) is not None


def test_finished_files_are_kept_until_their_source_changes(work):
    first = ort(work)
    written = Path(first.path).stat().st_mtime_ns
    assert ort(work) == first
    assert Path(first.path).stat().st_mtime_ns == written
    write_samples(work / "calibration.npz", some_samples(20, 3))
    ort(work)
    assert Path(first.path).stat().st_mtime_ns != written


def test_a_peer_that_fails_is_a_row_with_its_reason(work):
    (work / "plain.onnx").write_bytes(b"not a model")
    candidate = ort(work)
    assert candidate.path == ""
    assert candidate.problem.startswith("exit code 1: ")
    save_net(work / "plain.onnx")
    row = Row("net", "class", 20, threads=1)
    broken = [candidate, Candidate("lost", str(work / "lost.onnx"))]
    row = judge_all(row, read_plain(work / "plain.onnx"), broken, some_samples(3, 4), None)
    assert [bool(one.problem) for one in row.judged] == [False, True, True]
    text = format_int8([row], MACHINE)
    assert f"- ort-minmax: {candidate.problem[:40]}" in text
    assert "- lost: " in text
    assert str(work) not in text


def test_a_missing_environment_is_a_row(work):
    paths = (work / "none", work / "plain.onnx", work / "calibration.npz", work)
    candidate = make_peer("nncf", "default", *paths, Limits())
    assert candidate.problem == "no environment for nncf: make one of benchmarks/requirements-int8.txt"


@pytest.mark.parametrize(
    ("code", "limits", "words"),
    [
        ("raise SystemExit('out of luck')", Limits(30), "exit code 1: out of luck"),
        ("import time; time.sleep(60)", Limits(1), "stopped after 1 s"),
        ("bytearray(1 << 31)", Limits(30, 1 << 30), "exit code 1: MemoryError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Limits(30), "signal 11: no word"),
    ],
)
def test_processes_have_limits(code, limits, words, tmp_path):
    _, problem = run_limited([sys.executable, "-c", code], limits, tmp_path / "log")
    assert problem == words


def test_recipes_fit_the_cpu_and_the_network():
    assert "minmax-7bit" in variants_of("ort", "craft", vnni=False)
    assert variants_of("ort", "craft", vnni=True) == ("minmax", "entropy", "percentile")
    assert variants_of("nncf", "craft", vnni=True) == ("default", "onnx", "bias", "control")
    more = ("overflow", "bias-overflow", "control-overflow")
    assert variants_of("nncf", "craft", vnni=False) == ("default", "onnx", "bias", "control", *more)
    assert "transformer" in variants_of("nncf", "minilm", vnni=True)


def test_scores_agreement_and_sqnr_see_different_things():
    samples = some_samples(2, 0)
    reference = [[np.array([[9.0, 1, 1, 1]])], [np.array([[1.0, 9, 1, 1]])]]
    got = [[np.array([[8.0, 1, 1, 1]])], [np.array([[9.0, 8, 1, 1]])]]
    one = judge("x", got, reference, samples)
    # The truth is 0: the second sample is wrong in FP32, right here, and so no agreement.
    assert (one.scores, one.agreements) == ((1.0, 1.0), (1.0, 0.0))
    assert one.sqnr_db[0] == pytest.approx(10 * np.log10(84 / 1), abs=1e-3)


def test_some_samples_are_spread_over_all():
    assert int8_judge.spread(3, 100) == [0, 1, 2]
    assert int8_judge.spread(101, 3) == [0, 50, 100]
    samples = some_samples(6, 0)
    few = samples.take([1, 4])
    assert len(few) == 2
    np.testing.assert_array_equal(few[1]["x"], samples[4]["x"])


def test_the_table_reads_as_written():
    lines = format_int8([made_row()], MACHINE).splitlines()
    assert "Measured from 2026-01-02T03:04:05Z on A CPU, 2 cores, load 0.01 at the start; hwc 1, openvino 2." in lines
    (about,) = [line for line in lines if line.startswith("Calibrated")]
    assert about == (
        "Calibrated on 20 samples, judged on 10 others; a note. 2 threads; 6 rounds of 2 runs, load 0.1 -> 0.2."
    )
    cells = [line for line in lines if line.startswith(("| fp32", "| peer", "| other", "| hwc"))]
    assert cells == [
        "| fp32 | 100.00 | - | - | - | - | 2 / 2 | - | 0.250 [0.250, 0.250] | 4.00 | - |",
        "| peer | 90.00 | +10.00 [+0.00, +30.00] | 90.00 | 21.00 | 95.00, 31.00 dB | 1 / 1 | 0.500 [0.500, 0.500] "
        "| 0.500 [0.500, 0.500] | 1.25 | 7 |",
        "| other | - | - | - | - | - | - | - | - | - | 3 |",
        "| hwc | 100.00 | +0.00 [+0.00, +0.00] | 100.00 | 25.00 | 100.00, 26.00 dB | 0.5 / 0.5 | 0.250 [0.250, 0.250] "
        "| - | 1.00 | 5 |",
    ]
    assert "- other: exit code 1: no | such layer" in lines
    assert "- peer: warm-up never stationary" in lines


def test_a_network_that_cannot_be_prepared_stays_in_the_report():
    text = format_int8([Row("net", problem="not prepared: exit code 1: no weights")], MACHINE)
    assert "## net" in text
    assert "not prepared: exit code 1: no weights" in text


def test_results_survive_the_file(tmp_path):
    rows = (made_row(), Row("broken", problem="no"))
    report.write_results(tmp_path / "int8.json", rows, MACHINE, format_int8)
    assert report.read_rows(Row, tmp_path / "int8.json") == rows


def test_the_drop_is_paired():
    scores = np.random.default_rng(0).integers(0, 2, 100).astype(float)
    assert drop_interval(scores, scores) == (0.0, 0.0)
    low, high = drop_interval(scores, 1 - scores)
    assert low < 100 * (2 * scores.mean() - 1) < high


def test_one_network_from_command_to_table(work, monkeypatch, tmp_path):
    """The parent's road with the steps of the child taken in this process."""

    def step(name, model, args, limits, folder):
        if name == "prepare":
            for file in ("plain.onnx", "calibration.npz", "validation.npz"):
                (folder / file).write_bytes((work / file).read_bytes())
            (folder / "row.json").write_text(run_int8.to_json(Row(model, "class", 20, 12, threads=1)))
        else:
            argument = ["--step", "judge", "--models", model, "--work", str(folder.parent), "--seconds", "0"]
            run_int8.run_step(run_int8.parse(argument))
        return ""

    monkeypatch.setattr(run_int8, "_step", step)
    out = tmp_path / "results" / "int8.json"
    arguments = ["--models", "onet", "--peers", "ort", "--variants", "minmax", "--seconds", "0", "--threads", "1"]
    assert run_int8.main([*arguments, "--work", str(tmp_path / "w"), "--out", str(out)]) == 0
    (row,) = report.read_rows(Row, out)
    assert [one.name for one in row.judged] == ["fp32", "ort-minmax"]
    text = out.with_suffix(".md").read_text()
    assert "| ort-minmax |" in text
    # Folders of the machine that made a result are not part of it.
    assert str(tmp_path) not in text
    assert "--work w --out int8.json" in text


@pytest.mark.parametrize("arguments", [["--models", "lenet"], ["--peers", "gptq"], ["--seconds", "-1"]])
def test_wrong_arguments_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        run_int8.parse(arguments)
    assert end.value.code == 2


def test_the_file_judged_has_its_weights_counted(tmp_path):
    for name, count in (("a.xml", 3), ("a.bin", 5), ("b.onnx", 2), ("b.onnx.data", 9)):
        (tmp_path / name).write_bytes(b"0" * count)
    assert int8_judge.size_of(tmp_path / "a.xml") == 8
    assert int8_judge.size_of(tmp_path / "b.onnx") == 11


def test_unknown_cpus_are_taken_as_exact(monkeypatch):
    monkeypatch.setattr(int8_candidates.Path, "read_text", lambda self: "flags : fpu avx2")
    assert not int8_candidates.has_vnni()
    monkeypatch.setattr(int8_candidates.Path, "read_text", lambda self: "flags : avx2 avx_vnni")
    assert int8_candidates.has_vnni()
