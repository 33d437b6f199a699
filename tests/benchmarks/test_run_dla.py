"""The DLA benchmark on a network that is made up."""

import onnx
import pytest

from benchmarks.models import Entry
from benchmarks.report import read_rows, write_results
from benchmarks.run_dla import Row, format_dla, measure
from hwc import targets
from hwc.store import Store

MACHINE = {"time_utc": "2026-01-02T03:04:05Z", "versions": "hwc 1", "command": "python -m benchmarks.run_dla"}
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,4,16,16] x) => (float[1,4,1,1] y) {
  r = Relu(x)
  h = HardSwish(r)
  y = GlobalAveragePool(h)
}"""


@pytest.fixture
def row(tmp_path) -> Row:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "net.onnx")
    entry = Entry("net", str(tmp_path / "net.onnx"), {"x": (1, 4, 16, 16)}, "", "", is_onnx=True)
    return measure(entry, targets.load("agx-xavier"), "int8", Store(tmp_path / "cache"), lambda what, fraction: None)


def test_a_row_compares_plain_and_rewritten(row) -> None:
    assert row.legal[0] == 1 and row.legal[1] == row.layers[1] and row.reasons == ()
    assert (row.loadables, row.limit) == ((1, 1), 4)
    assert dict(row.rewrites) == {"decompose_hardswish": 1, "cascade_average_pool": 1}
    assert row.offload[0] <= row.legal[1] and row.latency[1] <= row.gpu_ms


def test_the_table_shows_every_row_and_the_file_is_read_back(row, tmp_path) -> None:
    refused = Row("odd", "agx-xavier-32gb", "int8", refused="no such operator")
    write_results(tmp_path / "dla.json", [row, refused], MACHINE, format_dla)
    assert read_rows(Row, tmp_path / "dla.json") == (row, refused)
    text = (tmp_path / "dla.md").read_text()
    assert "1 of 3 -> 7 of 7" in text and "refused: no such operator" in text
