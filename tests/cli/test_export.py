"""`hwc export` writes the captured graph, and says how it was proved."""

import os

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from tests.e2e.fixtures import assert_refused, document, names_in
from tests.e2e.tiny_models import expected_onnx, write_onnx


def test_the_exported_graph_computes_what_the_model_computes(hwc, tmp_path):
    result = hwc("export", write_onnx(tmp_path), "-o", tmp_path / "deep" / "out.onnx")
    assert result.exit_code == 0, result.stderr
    assert "agrees with the file" in result.stdout
    model = onnx.load(tmp_path / "deep" / "out.onnx")
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(ReferenceEvaluator(model).run(None, {"x": x})[0], expected_onnx(x), atol=1e-4)


def test_a_second_export_reuses_the_capture(hwc, tmp_path):
    model = write_onnx(tmp_path, seed=21)
    assert "(capture reused)" not in hwc("export", model, "-o", tmp_path / "a.onnx").stdout
    assert "(capture reused)" in hwc("export", model, "-o", tmp_path / "b.onnx").stdout
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_open_dimension_can_be_bound(hwc, tmp_path):
    hwc("export", write_onnx(tmp_path, batch="N"), "--shapes=x:3x3x8x8", "-o", tmp_path / "out.onnx")
    dims = onnx.load(tmp_path / "out.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [3, 3, 8, 8]


def test_the_json_names_the_file(hwc, tmp_path):
    shown = document(hwc("export", write_onnx(tmp_path), "-o", tmp_path / "out.onnx", "--format", "json"))
    assert shown["output"] == str(tmp_path / "out.onnx") and len(shown["digest"]) == 64


def test_a_special_file_is_never_replaced(hwc, tmp_path):
    model = write_onnx(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    before = names_in(tmp_path)
    for verb in ("export", "optimize"):
        assert_refused(hwc(verb, model, "-o", tmp_path / "pipe"), 2, "not a regular file", "choose another -o")
        assert_refused(hwc(verb, model, "-o", tmp_path), 2, "not a regular file")
    assert names_in(tmp_path) == before and (tmp_path / "pipe").is_fifo()
