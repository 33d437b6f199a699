"""The suite's report and judgement with made-up contestants; no assertion depends on speed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import report, run_suite
from benchmarks.contestants import PlainSession
from benchmarks.models import LIGHT
from benchmarks.plain import Plain, bind_feeds, make_plain, source_for_hwc
from benchmarks.report_suite import format_suite
from benchmarks.run_suite import Measured, Row, measure_apart, measure_contestants
from hwc.artifacts import TensorSpec
from hwc.errors import EngineError
from hwc.profile.measure import MeasureOptions
from hwc.serialize import to_json

MACHINE = {
    "processor": "A CPU", "cores_allowed": "2", "clock_mhz": "1", "governor": "unknown", "load": "0.01",
    "time_utc": "2026-01-02T03:04:05Z", "versions": "hwc 1, openvino 2", "command": "python -m benchmarks.run_suite",
}  # fmt: skip
QUICK = MeasureOptions(warmup_s=0, max_warmup_s=0.01, duration_s=1e-6, window=2, pause_s=0, max_rounds=6)
SPECS = (TensorSpec("x", "float32", (1, 2)),)
EXPECTED = {"0": np.array([[1.0, 2.0]], np.float32)}
MS = 1_000_000


class Fake(PlainSession):
    def __init__(self, values) -> None:
        plain = Plain(None, SPECS, (), 1)
        super().__init__(plain, lambda feeds: [np.array([values], np.float32)])


def fail(error: Exception):
    raise error


def measure(openers) -> Row:
    return measure_contestants(
        Row("net", "fp32", 2), openers, lambda session: {"x": np.zeros((1, 2), np.float32)}, EXPECTED, QUICK
    )


def made_row(**more) -> Row:
    """hwc takes half of OpenVINO's time, and what ONNX Runtime takes; torch is wrong."""
    contestants = (
        Measured("hwc", (1 * MS, 1 * MS) * 6, 30, True, 1e-6),
        Measured("openvino", (2 * MS, 2 * MS) * 6, 30, True, 1e-6),
        Measured("onnxruntime", (MS // 2, MS // 2, 2 * MS, 2 * MS) * 3, 30, False, 1e-6),
        Measured("torch", problem="WRONG OUTPUT 0: max error 1 over the limit 0.1"),
    )
    return Row("net", "fp32", 2, "1x2", "torch", 2, "0.01 -> 0.02", contestants, **more)


def test_contestants_are_judged_and_timed():
    row = measure({"hwc": lambda: Fake([1, 2]), "openvino": lambda: Fake([1, 2])})
    assert [c.problem for c in row.contestants] == ["", ""]
    # Six rounds of blocks of two, or a whole set of orders beyond that.
    assert {len(c.samples_ns) for c in row.contestants} == {6 * row.block}
    assert row.ratio("openvino") is not None


def test_a_contestant_that_fails_is_a_line_of_the_row():
    refused = EngineError("OpenVINO cannot compile this model", got="no such operator")
    row = measure(
        {"hwc": lambda: Fake([1, 2]), "openvino": lambda: fail(refused), "torch": lambda: fail(KeyError("y"))}
    )
    assert row.find("hwc").samples_ns
    assert row.find("openvino").problem == "OpenVINO cannot compile this model: no such operator"
    assert row.find("torch").problem == "KeyError: 'y'"
    assert row.ratio("openvino") is None


@pytest.mark.parametrize("wrong", [[1, 2.01], [1, np.nan]])
def test_wrong_outputs_are_named_and_not_timed(wrong):
    row = measure({"hwc": lambda: Fake(wrong), "openvino": lambda: Fake([1, 2])})
    assert row.find("hwc").problem.startswith("WRONG OUTPUT 0: ")
    assert row.find("hwc").samples_ns == ()
    assert "WRONG OUTPUT" in format_suite([row], MACHINE)


def test_a_missing_output_is_wrong():
    silent = PlainSession(Plain(None, SPECS, (), 1), lambda feeds: [])
    row = measure({"hwc": lambda: silent, "openvino": lambda: Fake([1, 2])})
    assert row.find("hwc").problem == "WRONG OUTPUT 0: missing"


def test_a_row_without_any_contestant_says_so():
    row = measure({"hwc": lambda: fail(ValueError("no"))})
    assert row.problem == "no contestant could be timed"
    assert "hwc: ValueError: no" in format_suite([row], MACHINE)


def test_ratios_are_paired_by_round():
    row = made_row()
    half = row.ratio("openvino")
    assert (half.ratio, half.low, half.high, half.is_decided) == (0.5, 0.5, 0.5, True)
    swinging = row.ratio("onnxruntime")
    # Rounds alternate between 1 / 0.5 and 1 / 2.
    assert swinging.pairs == (2.0, 0.5) * 3
    assert not swinging.is_decided
    assert row.ratio("torch") is None


def test_the_table_reads_as_written():
    lines = format_suite([made_row()], MACHINE).splitlines()
    (measured,) = [line for line in lines if line.startswith("Measured")]
    assert measured == (
        "Measured from 2026-01-02T03:04:05Z on A CPU, 2 cores, 2 threads per contestant, load 0.01 at the start; "
        "hwc 1, openvino 2."
    )
    (cells,) = [line for line in lines if line.startswith("| net")]
    assert cells == (
        "| net | fp32 | 1x2 | 1.00 / 1.00 | 2.00 / 2.00 | 1.25 / 2.00 | - | 0.500 [0.500, 0.500] faster "
        "| 1.250 [0.500, 2.000] none shown | - | 6 x 2 | onnxruntime: never stationary in 30 warm-up runs; "
        "torch: WRONG OUTPUT 0: max error 1 over the limit 0.1 |"
    )
    assert (
        "fp32, hwc / OpenVINO: geometric mean 0.500 over 1 of 1 rows; faster 1, slower 0, no difference shown 0."
        in lines
    )


def test_a_failed_network_stays_in_the_table():
    text = format_suite([made_row(), Row("broken", "fp32", problem="it | has\nbars")], MACHINE)
    (cells,) = [line for line in text.splitlines() if line.startswith("| broken")]
    assert cells.endswith("| it / has bars |")
    assert cells.count("|") == [line for line in text.splitlines() if line.startswith("| net")][0].count("|")
    assert "over 1 of 2 rows" in text


def test_results_survive_the_file(tmp_path):
    rows = (made_row(), Row("broken", "fp32", problem="no"))
    report.write_results(tmp_path / "deep" / "suite.json", rows, MACHINE, format_suite)
    assert report.read_rows(Row, tmp_path / "deep" / "suite.json") == rows
    assert (tmp_path / "deep" / "suite.md").read_text() == format_suite(rows, MACHINE)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["suite.json", "suite.md"]


def test_a_full_suite_fits_two_megabytes(tmp_path):
    samples = tuple(10**9 + i for i in range(run_suite.MAX_ROUNDS * 10))
    everyone = tuple(Measured(name, samples) for name in ("hwc", "openvino", "onnxruntime", "torch"))
    rows = [Row("net", "fp32", contestants=everyone)] * 12
    report.write_results(tmp_path / "suite.json", rows, MACHINE, lambda rows, machine: "")
    assert (tmp_path / "suite.json").stat().st_size <= 2_000_000


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("raise SystemExit('out of luck')", "exit code 1: out of luck"),
        ("import time; time.sleep(60)", "stopped after 2 s"),
    ],
)
def test_a_process_that_dies_or_hangs_is_a_row(code, words, tmp_path):
    row = measure_apart([sys.executable, "-c", code], Row("net", "fp32"), tmp_path / "row.json", lambda *_: None, 2.0)
    assert row.model == "net"
    assert words in row.problem


def test_a_child_reports_its_progress_and_its_row(tmp_path):
    path, seen = tmp_path / "row.json", []
    text = to_json(made_row())
    code = f"print('suite-progress 0.5 warming up', flush=True); open({str(path)!r}, 'w').write({text!r})"
    row = measure_apart([sys.executable, "-c", code], Row("net", "fp32"), path, lambda *said: seen.append(said))
    assert row == made_row()
    assert seen == [("warming up", 0.5)]


def test_errors_lose_the_paths_of_this_machine(tmp_path):
    root = str(Path(report.__file__).resolve().parents[1])
    assert report.put_in_words(OSError(f"no {root}/hwc/a.py\n  there")) == "OSError: no hwc/a.py there"


def test_feeds_are_bound_by_name_or_by_place_and_scalars_stay_scalars():
    specs = (TensorSpec("a", "float32", (2,)), TensorSpec("b", "int64", ()))
    a, b = np.zeros(2, np.float32), np.array(7, np.int64)
    for given in ({"b": b, "a": a}, {"x": a, "y": b}):
        bound = bind_feeds(specs, given)
        assert list(bound) == ["a", "b"]
        assert bound["b"].shape == ()
    with pytest.raises(EngineError, match="other inputs"):
        bind_feeds(specs, {"a": a})


def test_the_plain_file_of_a_fixed_model_is_the_file_itself(tmp_path):
    entry = next(entry for entry in LIGHT if entry.name == "light_squeezenet")
    plain = make_plain(entry, tmp_path)
    assert plain.path == entry.load()
    # IR version 3 lists every initializer as an input; only the real one is fed.
    assert [(spec.name, spec.shape) for spec in plain.inputs] == [("data_0", (1, 3, 224, 224))]
    assert plain.operators == 105
    assert source_for_hwc(entry, tmp_path)[0] == entry.source


def test_an_unknown_model_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as end:
        run_suite.main(["--models", "lenet"])
    assert end.value.code == 2
    assert "no model is called 'lenet'" in capsys.readouterr().err


def test_progress_steps_add_up():
    console = Console(quiet=True)
    with report.show_progress(console, "suite", 2) as step:
        for label in ("a", "b"):
            with step(label) as progress:
                progress("half", 0.5)
