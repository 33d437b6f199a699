"""Which files an ONNX model consists of, and that a build writes all of its files or none."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from hwc.engines.files import copy_model, external_files, require_files, scan_model, staging
from hwc.errors import EngineError, UsageError
from tests.engines.contract import conv_graph, quantized_conv_graph


def save_with_location(path, location):
    model = conv_graph()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(model.SerializeToString())


def test_external_files_are_found(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(conv_graph(), str(path))
    assert external_files(path) == ()
    onnx.save(conv_graph(), str(path), save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    assert external_files(path) == ("bias", "weight")
    (tmp_path / "copy").mkdir()
    assert copy_model(path, tmp_path / "copy") == ("m.onnx", "bias", "weight")
    onnx.load(str(tmp_path / "copy" / "m.onnx"))


def test_external_files_inside_a_subgraph_are_found(tmp_path):
    save_with_location(tmp_path / "inner.onnx", "inner.bin")
    inner = onnx.load(str(tmp_path / "inner.onnx"), load_external_data=False).graph
    node = helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=conv_graph().graph)
    graph = helper.make_graph([node], "outer", [], [])
    path = tmp_path / "outer.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert external_files(path) == ("inner.bin",)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b"])
def test_files_outside_the_models_folder_are_refused(location, tmp_path):
    save_with_location(tmp_path / "m.onnx", location)
    with pytest.raises(UsageError, match="outside"):
        external_files(tmp_path / "m.onnx")


def test_a_missing_weight_file_is_named(tmp_path):
    save_with_location(tmp_path / "m.onnx", "weights.bin")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UsageError, match=r"weights\.bin"):
        copy_model(tmp_path / "m.onnx", tmp_path / "elsewhere")


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"PK\x03\x04 not a model", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_not_an_onnx_file_is_refused(content, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UsageError, match="cannot read"):
        external_files(tmp_path / "m.onnx")


def test_staging_moves_all_or_nothing(tmp_path):
    (tmp_path / "a").write_text("before")
    with pytest.raises(KeyError), staging(tmp_path) as folder:
        (folder / "a").write_text("after")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"
    with staging(tmp_path) as folder:
        (folder / "a").write_text("after")
        (folder / "inner").mkdir()
        (folder / "inner" / "b").write_text("b")
    assert (tmp_path / "a").read_text() == "after" and (tmp_path / "inner" / "b").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "inner"}


def test_a_full_disk_is_an_engine_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot write"), staging(tmp_path / "file" / "below"):
        pass
    with pytest.raises(EngineError, match="No space left"), staging(tmp_path):
        raise OSError(28, "No space left on device", "engine.plan")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(EngineError, match=r"engine\.plan"):
        require_files(tmp_path, ["engine.plan"])


def test_types_and_operators_are_read_without_onnx(tmp_path):
    onnx.save(conv_graph(TensorProto.FLOAT16), str(tmp_path / "half.onnx"))
    onnx.save(quantized_conv_graph(), str(tmp_path / "int8.onnx"))
    assert scan_model(tmp_path / "half.onnx") == ({TensorProto.FLOAT16}, {"Conv", "Relu", "MaxPool"})
    types, operators = scan_model(tmp_path / "int8.onnx")
    assert types == {TensorProto.FLOAT, TensorProto.INT8} and "QuantizeLinear" in operators
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "int8.onnx").read_bytes()[:100])
    with pytest.raises(UsageError, match="cannot read the ONNX file"):
        scan_model(tmp_path / "cut.onnx")
