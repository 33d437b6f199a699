"""OpenVINO as an engine: the contract, how its kernels trace back to the graph, and that it never changes precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hwc.engines import base, openvino
from hwc.engines.inspect import kernels_by_source
from hwc.errors import EngineError, TargetError, UsageError
from tests.engines.contract import (
    Contract,
    assert_close,
    conv_graph,
    expected_of,
    feeds_for,
    quantized_conv_graph,
    request,
    specs,
    unknown_operator_graph,
)

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


class TestContract(Contract):
    backend = "openvino"


def light(name: str, folder: Path) -> tuple[base.BuildRequest, onnx.ModelProto]:
    model = onnx.load(str(LIGHT / f"light_{name}.onnx"))
    asked = request(model, folder)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = specs([value for value in model.graph.input if value.name not in constants], 1)
    return base.BuildRequest(**{**vars(asked), "inputs": inputs}), model


def test_fused_nodes_trace_back_to_the_graph(tmp_path):
    engine = base.build("openvino", request(conv_graph(), tmp_path))
    sources = [kernel.sources for kernel in engine.kernels if kernel.sources]
    # The pool makes the model's output, so OpenVINO calls it "pooled", after the tensor; it is still found.
    assert sources == [("stem/conv", "stem/relu"), ("stem/pool",)]
    assert {kernel.kind for kernel in engine.kernels if not kernel.sources} <= {"Reorder"}


def test_every_node_of_squeezenet_is_in_one_kernel(tmp_path):
    asked, model = light("squeezenet", tmp_path)
    engine = base.build("openvino", asked)
    working = {node.name for node in model.graph.node if node.op_type not in ("ConstantOfShape", "Dropout")}
    assert set(kernels_by_source(engine)) == working
    assert sum(len(kernel.sources) for kernel in engine.kernels) == len(working)
    convolutions = [kernel for kernel in engine.kernels if kernel.kind == "Convolution"]
    kinds = {node.name: node.op_type for node in model.graph.node}
    assert [tuple(kinds[name] for name in kernel.sources) for kernel in convolutions] == [("Conv", "Relu")] * 26


def test_a_folded_normalization_names_its_convolution_too(tmp_path):
    model = conv_graph()
    ones = [numpy_helper.from_array(np.ones(8, np.float32), name) for name in ("gain", "shift", "mean", "variance")]
    model.graph.initializer.extend(ones)
    normalize = helper.make_node(
        "BatchNormalization", ["c", "gain", "shift", "mean", "variance"], ["b"], name="stem/norm"
    )
    model.graph.node.insert(1, normalize)
    model.graph.node[2].input[0] = "b"
    engine = base.build("openvino", request(model, tmp_path))
    assert kernels_by_source(engine)["stem/conv"].sources == ("stem/conv", "stem/norm", "stem/relu")


def test_layers_are_timed_only_on_request(tmp_path):
    asked = request(conv_graph(), tmp_path, threads=1)
    engine = base.build("openvino", asked)
    with base.open_session(engine, asked.out_dir) as session:
        session.run(feeds_for(asked.inputs))
        assert session.layers() == ()
    with base.open_session(engine, asked.out_dir, profile=True) as session:
        for _ in range(3):
            session.run(feeds_for(asked.inputs))
        layers = session.layers()
    assert [layer.sources for layer in layers] == [kernel.sources for kernel in engine.kernels]
    assert all(layer.time_us is not None and layer.time_us >= 0 for layer in layers)


def int8_difference(limit: int, folder: Path) -> tuple[float, base.Engine]:
    """Largest difference between OpenVINO and the judge, weights within +-limit, and the engine."""
    asked = request(quantized_conv_graph(limit), folder)
    engine = base.build("openvino", asked)
    feeds = feeds_for(asked.inputs)
    judge = request(quantized_conv_graph(limit), folder / "judge")
    with base.open_session(base.build("reference", judge), judge.out_dir) as session:
        expected = session.run(feeds)["y"]
    with base.open_session(engine, asked.out_dir) as session:
        return float(np.abs(session.run(feeds)["y"] - expected).max()), engine


def test_int8_runs_in_int8_and_matches_the_reference(tmp_path):
    difference, engine = int8_difference(64, tmp_path)
    assert kernels_by_source(engine)["conv"].precision == "int8"
    # Integer sums are exact and the scales are powers of two: nothing is rounded twice.
    assert difference == 0.0


def test_int8_that_saturates_is_told(tmp_path):
    difference, engine = int8_difference(127, tmp_path)
    told = any("saturate" in note for note in engine.notes)
    # Either this CPU adds in 32 bits, or the engine says that it does not.
    assert told or difference == 0.0


@pytest.mark.parametrize(("precision", "needed"), [("fp16", "FP16"), ("bf16", "BF16")])
def test_a_precision_that_this_cpu_lacks_is_refused(precision, needed, tmp_path, monkeypatch):
    import openvino as ov

    class PlainCpu(ov.Core):
        def get_property(self, device, name):
            return ["FP32", "INT8"] if name == "OPTIMIZATION_CAPABILITIES" else super().get_property(device, name)

    monkeypatch.setattr(ov, "Core", PlainCpu)
    with pytest.raises(TargetError, match=needed) as caught:
        base.build("openvino", request(conv_graph(), tmp_path, precision=precision))
    assert "OPTIMIZATION_CAPABILITIES" in caught.value.source


def test_fp32_forces_the_hint(tmp_path):
    asked = request(conv_graph(), tmp_path)
    engine = base.build("openvino", asked)
    with base.open_session(engine, asked.out_dir) as session:
        assert "f32" in str(session._compiled.get_property("INFERENCE_PRECISION_HINT")).replace("float", "f")


def test_the_build_is_checked_against_what_was_asked(tmp_path, monkeypatch):
    # Seen to fail: OpenVINO builds fp32 while fp16 was asked and the CPU claims to have it.
    monkeypatch.setattr(openvino, "_require_capability", lambda precision: ["FP16"])
    monkeypatch.setitem(openvino._HINTS, "fp16", "f32")
    with pytest.raises(TargetError, match="did not build what was asked"):
        base.build("openvino", request(conv_graph(), tmp_path, precision="fp16"))


def test_shapes_that_the_graph_cannot_take_are_refused(tmp_path):
    asked = request(conv_graph(), tmp_path)
    wrong = base.TensorSpec("x", "float32", (2, 7, 8, 8))
    with pytest.raises(UsageError, match="shapes"):
        base.build("openvino", base.BuildRequest(**{**vars(asked), "inputs": (wrong,)}))


def test_an_unknown_operator_is_named(tmp_path):
    with pytest.raises(UsageError, match="NoSuchOperator"):
        base.build("openvino", request(unknown_operator_graph(), tmp_path))


def test_fp16_storage_halves_the_file_and_keeps_fp32_arithmetic(tmp_path):
    plain = base.build("openvino", request(conv_graph(), tmp_path / "plain"))
    asked = request(conv_graph(), tmp_path / "half", options={"compress_to_fp16": "yes"})
    half = base.build("openvino", asked)
    assert half.weight_bytes < 0.6 * plain.weight_bytes
    assert dict(half.precision_built) == {"fp32": len(half.kernels)}
    feeds = feeds_for(asked.inputs)
    with base.open_session(half, asked.out_dir) as session:
        assert_close(session.run(feeds)["pooled"], expected_of(conv_graph(), feeds)["pooled"], "fp16")


def test_broken_settings_are_reported(tmp_path):
    asked = request(conv_graph(), tmp_path)
    engine = base.build("openvino", asked)
    (asked.out_dir / "openvino.json").write_text("[]")
    with pytest.raises(EngineError, match="broken"):
        base.open_session(engine, asked.out_dir)
