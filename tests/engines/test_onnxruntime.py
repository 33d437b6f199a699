"""ONNX Runtime as an engine: the contract, its optimization levels and what it says about itself."""

from __future__ import annotations

import pytest
from onnx import TensorProto

from hwc.engines import base
from hwc.engines.onnxruntime import kernels_from_trace
from hwc.errors import EngineError, TargetError, UsageError
from tests.engines.contract import Contract, conv_graph, feeds_for, request


class TestContract(Contract):
    backend = "onnxruntime"


def test_without_optimization_every_node_is_a_kernel(tmp_path):
    asked = request(conv_graph(), tmp_path, options={"graph_optimization_level": "disable_all"})
    engine = base.build("onnxruntime", asked)
    assert [kernel.sources for kernel in engine.kernels] == [("stem/conv",), ("stem/relu",), ("stem/pool",)]
    fused = base.build("onnxruntime", request(conv_graph(), tmp_path / "fused"))
    assert len([kernel for kernel in fused.kernels if not kernel.kind.startswith("Reorder")]) == 2


def test_a_wrong_level_is_refused(tmp_path):
    with pytest.raises(UsageError, match="graph_optimization_level=most"):
        base.build("onnxruntime", request(conv_graph(), tmp_path, options={"graph_optimization_level": "most"}))


def test_layers_are_timed_only_on_request(tmp_path):
    asked = request(conv_graph(), tmp_path, threads=1)
    engine = base.build("onnxruntime", asked)
    with base.open_session(engine, asked.out_dir) as session:
        session.run(feeds_for(asked.inputs))
        assert session.layers() == ()
    with base.open_session(engine, asked.out_dir, profile=True) as session:
        for _ in range(3):
            session.run(feeds_for(asked.inputs))
        layers = session.layers()
        assert [layer.kind for layer in layers] == [kernel.kind for kernel in engine.kernels]
        assert all(layer.time_us is not None and layer.time_us >= 0 for layer in layers)
        assert session.layers() == layers


def test_fp16_is_refused_where_it_would_be_widened(tmp_path):
    asked = request(conv_graph(TensorProto.FLOAT16), tmp_path, precision="fp16")
    try:
        engine = base.build("onnxruntime", asked)
    except TargetError as error:
        assert "fp16" in error.expected and "fp32" in error.got
    else:  # a CPU with fp16 arithmetic
        assert dict(engine.precision_built).get("fp16")


def test_trace_times_are_medians():
    args = {"op_name": "Conv", "input_type_shape": [{"float": [1]}], "output_type_shape": []}
    events = [{"cat": "Node", "name": "a_kernel_time", "dur": time, "args": args} for time in (9, 1, 2)]
    events.append({"cat": "Session", "name": "model_run", "dur": 50})
    (kernel,) = kernels_from_trace(events, {"a"})
    assert (kernel.name, kernel.kind, kernel.precision, kernel.sources, kernel.time_us) == (
        "a",
        "Conv",
        "fp32",
        ("a",),
        2.0,
    )


def test_broken_settings_are_reported(tmp_path):
    asked = request(conv_graph(), tmp_path)
    engine = base.build("onnxruntime", asked)
    (asked.out_dir / "onnxruntime.json").write_text("{")
    with pytest.raises(EngineError, match="broken"):
        base.open_session(engine, asked.out_dir)
