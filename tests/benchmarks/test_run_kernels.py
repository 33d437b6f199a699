"""The kernel benchmark's verdicts, table and failures, with builds that are made up."""

import dataclasses
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import report, run_kernels
from benchmarks.models import Entry
from benchmarks.plain import make_plain
from benchmarks.report_kernels import format_kernels
from benchmarks.run_kernels import Figures, Row, measure_network
from hwc.artifacts import Step, Target
from hwc.engines.base import no_progress
from hwc.errors import TargetError

MACHINE = {
    "processor": "A CPU", "cores_allowed": "2", "time_utc": "2026-01-02T03:04:05Z", "versions": "hwc 1",
    "command": "python -m benchmarks.run_kernels",
}  # fmt: skip
PLAIN = Figures(100, 10, 1_000_000, 5_000_000, 2.4)
TARGET = Target("rtx-3090", "a GPU", "geforce", "tensorrt_rtx", {})


def made_row(hwc: Figures, plain: Figures = PLAIN, model: str = "net") -> Row:
    return Row(model, "rtx-3090", 200, plain, hwc, (("fold_pads", 2), ("recompose_gelu", 1)))


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "same"),
        ({"kernels": 99}, "better"),
        ({"kernels": 101}, "WORSE"),
        # Ten fills fewer and nothing else is better; fills traded for fewer other kernels is told apart.
        ({"kernels": 90, "fills": 0}, "better"),
        ({"kernels": 95, "fills": 4}, "mixed"),
        ({"activation_bytes": 1_009_999}, "same"),
        ({"activation_bytes": 1_020_000}, "WORSE"),
        ({"activation_bytes": 980_000}, "better"),
        ({"kernels": 50, "activation_bytes": 1_020_000}, "WORSE"),
        ({"activation_bytes": None}, "same"),
        ({"refused": "no"}, "WORSE"),
    ],
)
def test_verdicts(changes, verdict):
    assert made_row(dataclasses.replace(PLAIN, **changes)).verdict == verdict


def test_verdicts_where_the_plain_file_has_no_engine():
    refused = Figures(refused="UINT16 is not supported")
    assert made_row(PLAIN, refused).verdict == "only hwc"
    assert made_row(refused, refused).verdict == "neither"


def test_the_table_reads_as_written():
    rows = [made_row(Figures(80, 0, 500_000, 5_000_000, 1.6)), made_row(PLAIN, Figures(refused="no | UINT16"), "cuts")]
    lines = format_kernels(rows, MACHINE).splitlines()
    assert [line for line in lines if line.startswith(("| net", "| cuts"))] == [
        "| net | 200 | 100 (10) | 80 (0) | -20 (-20 %) | -10 (-11 %) | 1.00 | 0.50 | 5.00 / 5.00 | 2 / 2 "
        "| fold_pads 2, recompose_gelu 1 | better |",
        "| cuts | 200 | refused | 100 (10) | - | - | - | 1.00 | - / 5.00 | - / 2 "
        "| fold_pads 2, recompose_gelu 1 | only hwc |",
    ]
    assert lines[-2:] == ["Verdicts: better 1, only hwc 1.", "- cuts, plain refused: no | UINT16"]


def test_minilm_gets_its_own_line():
    text = format_kernels([made_row(Figures(50), model="minilm")], MACHINE)
    assert (
        "MiniLM: 200 operators in the exported graph; 100 kernels plain, 50 % fewer; "
        "50 kernels with hwc, 75 % fewer." in text
    )


def test_results_survive_the_file(tmp_path):
    rows = (made_row(PLAIN), made_row(Figures(refused="no")))
    report.write_results(tmp_path / "kernels.json", rows, MACHINE, format_kernels)
    assert report.read_rows(Row, tmp_path / "kernels.json") == rows


def make_file(path, dims) -> Entry:
    """x -> Relu -> y, with a Constant and an If whose branches hold one node each."""
    branches = [
        helper.make_graph([helper.make_node(op, ["a"], [op])], op, [], [helper.make_tensor_value_info(op, 1, None)])
        for op in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    x, y = (helper.make_tensor_value_info(name, 1, dims) for name in "xy")
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    return Entry("tiny", str(path), {"x": (1, 4)}, "", "none", is_onnx=True)


def test_open_sizes_are_fixed_and_operators_counted(tmp_path):
    plain = make_plain(make_file(tmp_path / "tiny.onnx", ["batch", 4]), tmp_path)
    assert plain.path == tmp_path / "plain.onnx"
    assert plain.inputs[0].shape == (1, 4)
    assert plain.operators == 4
    assert make_plain(make_file(tmp_path / "fixed.onnx", [1, 4]), tmp_path).path == tmp_path / "fixed.onnx"


def test_failures_of_either_side_stay_in_the_row(tmp_path, monkeypatch):
    def refuse(*args):
        raise TargetError("tensorrt_rtx does not support operator Foo", got="UINT16 is not supported")

    def build(*args):
        step = Step("fold_pads", 2, 3, 1, "", "", 0.0)
        quiet = dataclasses.replace(step, name="fold_constants", rewrites=0)
        return SimpleNamespace(steps=(step, quiet, step)), PLAIN

    entry = make_file(tmp_path / "tiny.onnx", [1, 4])
    monkeypatch.setattr(run_kernels, "build_plain", refuse)
    monkeypatch.setattr(run_kernels, "build_hwc", build)
    row = measure_network(entry, TARGET, None, no_progress)
    assert row.plain.refused == "tensorrt_rtx does not support operator Foo: UINT16 is not supported"
    assert (row.operators, row.passes, row.verdict) == (4, (("fold_pads", 4),), "only hwc")
    monkeypatch.setattr(run_kernels, "build_plain", lambda *args: PLAIN)
    monkeypatch.setattr(run_kernels, "build_hwc", refuse)
    assert measure_network(entry, TARGET, None, no_progress).verdict == "WORSE"


@pytest.mark.parametrize(("kernels", "code"), [(100, 0), (101, 1)])
def test_check_fails_where_hwc_is_worse(kernels, code, tmp_path, monkeypatch):
    made = made_row(dataclasses.replace(PLAIN, kernels=kernels))
    monkeypatch.setattr(run_kernels, "measure_network", lambda *args: made)
    arguments = ["--models", "onet", "--out", str(tmp_path / "kernels.json"), "--cache-dir", str(tmp_path)]
    assert run_kernels.main(arguments) == 0
    assert run_kernels.main([*arguments, "--check"]) == code
    assert (tmp_path / "kernels.md").is_file()


def test_an_unknown_target_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as end:
        run_kernels.main(["--targets", "voodoo-2"])
    assert end.value.code == 2
