"""The real networks come through the front end unchanged: ONNX files by ONNX Runtime, torch modules by the gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from benchmarks.models import SUITE, VARIANTS, Entry, find_entry
from hwc.errors import EngineError
from hwc.frontend.check_parity import check_parity
from hwc.frontend.input_shapes import InputShapes, parse_shapes
from hwc.frontend.model_source import load_source, parse_source
from hwc.frontend.onnx_file import load_onnx
from hwc.frontend.torch_export import export_torch
from hwc.graph.verify import verify_model

pytestmark = pytest.mark.suite

ENTRIES = [entry for entry in (*SUITE, *VARIANTS) if entry.name not in ("linknet3d_128", "crepe_full")]


def run(content: str | bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_real_network(entry: Entry) -> None:
    loaded = load_source(parse_source(entry.source))
    if loaded.onnx is not None:
        check_file(loaded.onnx, entry)
        return
    exported = export_torch(loaded.module, example_inputs=loaded.example_inputs)
    verify_model(exported.model, "exported")
    report = check_parity(loaded.module, exported.model, exported.example, draws=1)
    print(entry.name, report.rel_error, report.batch, exported.notes)
    assert report.judge.startswith("onnxruntime")


def check_file(path: Path, entry: Entry) -> None:
    imported = load_onnx(path)
    feeds = entry.example_inputs()
    content = ir.to_proto(imported.model).SerializeToString()
    for old, new in zip(run(str(path), feeds), run(content, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5 * float(np.abs(old).max()))
    print(entry.name, imported.notes)


@pytest.mark.parametrize("name", ["crepe_tiny", "onet"])
def test_real_network_with_a_dynamic_batch(name: str) -> None:
    entry = find_entry(name)
    (tensor,) = entry.inputs
    rest = "x".join(map(str, entry.inputs[tensor][1:]))
    shapes = parse_shapes("", f"{tensor}:1x{rest}", f"{tensor}:2x{rest}", f"{tensor}:4x{rest}")
    module = entry.load()
    exported = export_torch(module, shapes)
    assert check_parity(module, exported.model, exported.example, shapes).batch.startswith("each of 4 rows alone")


def test_the_gate_catches_a_size_that_torch_bakes_in() -> None:
    """torch 2.13 exports english_g2 with a dynamic width without complaint, and writes 79 columns into its reshapes."""
    module = find_entry("english_g2").load()
    shapes: InputShapes = parse_shapes("", "1x1x64x64", "1x1x64x320", "1x1x64x640")
    exported = export_torch(module, shapes)
    with pytest.raises(EngineError, match="failed|another shape|differs"):
        check_parity(module, exported.model, exported.example, shapes)
