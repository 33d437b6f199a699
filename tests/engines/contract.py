"""The contract of the engines as tests: small graphs, and one body per promise that every backend's tests call.

A backend's test file subclasses `Contract` and sets `backend`. Expected values come from the reference evaluator, which
shares no code with what it judges; for the reference engine itself they come from numpy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwc.artifacts import BuildKey, DynamicDim, Engine, Fact, Target, TensorSpec
from hwc.engines import base
from hwc.errors import EngineError, TargetError, UsageError

# Relative to the largest expected value. fp32: sums of at most 72 products, each rounded at 2^-24, in any order: 1e-5
# leaves a factor of two over the worst case. fp16: rounded at 2^-11 at every operator, and three operators in a row.
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3}
BATCH = DynamicDim(1, 2, 4)


def cpu_target() -> Target:
    return Target("cpu", "any CPU", "cpu", "openvino", {})


def rtx_target(capability: str = "SM89", **facts: Fact) -> Target:
    named = {"engine.tensorrt_rtx_compute_capability": Fact(capability, "name", "this test")}
    return Target("rtx-test", "a test", "geforce", "tensorrt_rtx", {**named, **facts})


def specs(values, batch) -> tuple[TensorSpec, ...]:
    """TensorSpecs of ONNX value infos, with `batch` for every symbolic size."""
    return tuple(
        TensorSpec(
            value.name,
            str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(dim.dim_value or batch for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def request(
    model: onnx.ModelProto, folder: Path, *, batch=2, precision="fp32", target: Target | None = None, **fields
) -> base.BuildRequest:
    """Saves `model` and asks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "graph.onnx"
    onnx.save(model, str(path))
    target = target or cpu_target()
    return base.BuildRequest(
        model=path,
        target=target,
        inputs=specs(model.graph.input, batch),
        outputs=specs(model.graph.output, batch),
        precision=precision,
        key=BuildKey("digest", target.name, "test", precision),
        out_dir=folder / "bundle",
        **fields,
    )


def conv_graph(kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """x -> Conv -> Relu -> MaxPool -> pooled, with a bias; every node named."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    random = np.random.default_rng(7)
    weight = numpy_helper.from_array((random.standard_normal((8, 8, 3, 3)) / 8).astype(dtype), "weight")
    bias = numpy_helper.from_array(random.standard_normal(8).astype(dtype), "bias")
    nodes = [
        helper.make_node("Conv", ["x", "weight", "bias"], ["c"], name="stem/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="stem/relu"),
        helper.make_node("MaxPool", ["r"], ["pooled"], name="stem/pool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, ["n", 8, 8, 8])]
    outputs = [helper.make_tensor_value_info("pooled", kind, ["n", 8, 4, 4])]
    return _model(nodes, inputs, outputs, [weight, bias])


def gather_graph() -> onnx.ModelProto:
    """Two inputs, one of them int64, and two outputs that are not in the order of the nodes that make them."""
    table = numpy_helper.from_array(np.arange(24, dtype=np.float32).reshape(6, 4), "table")
    nodes = [
        helper.make_node("Gather", ["table", "rows"], ["picked"], name="pick"),
        helper.make_node("Add", ["picked", "offset"], ["moved"], name="move"),
        helper.make_node("Mul", ["moved", "moved"], ["squared"], name="square"),
    ]
    inputs = [
        helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("offset", TensorProto.FLOAT, [4]),
    ]
    outputs = [
        helper.make_tensor_value_info("squared", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("moved", TensorProto.FLOAT, ["n", 4]),
    ]
    return _model(nodes, inputs, outputs, [table])


def quantized_conv_graph(limit: int = 127) -> onnx.ModelProto:
    """x -> Q -> DQ -> Conv(Q/DQ weight within +-limit) -> y, opset 17, which TensorRT 8.5 reads.

    Scales are powers of two, so that only the quantization itself rounds.
    """
    random = np.random.default_rng(7)
    constants = [
        numpy_helper.from_array(random.integers(-limit, limit, (32, 32, 3, 3), np.int8), "weight"),
        numpy_helper.from_array(np.full(32, 2.0**-7, np.float32), "weight_scale"),
        numpy_helper.from_array(np.zeros(32, np.int8), "weight_zero"),
        numpy_helper.from_array(np.float32(2.0**-5), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], name="weights", axis=0),
        helper.make_node("Conv", ["d", "w"], ["y"], name="conv"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 6, 6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 4, 4])]
    return _model(nodes, inputs, outputs, constants)


def unknown_operator_graph() -> onnx.ModelProto:
    nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"], name="stranger")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])]
    return _model(nodes, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])], [])


def _model(nodes, inputs, outputs, constants) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds_for(inputs: tuple[TensorSpec, ...], which: str = "opt", seed: int = 3) -> dict[str, np.ndarray]:
    """Normal floats; integers from 0 to 5."""
    random = np.random.default_rng(seed)
    return {
        spec.name: random.integers(0, 6, spec.at(which)).astype(spec.dtype)
        if np.dtype(spec.dtype).kind in "iu"
        else random.standard_normal(spec.at(which)).astype(spec.dtype)
        for spec in inputs
    }


def assert_close(got: np.ndarray, expected: np.ndarray, precision: str) -> None:
    """Largest difference relative to the largest expected value; NaN is never close."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64)).max()
    limit = TOLERANCE[precision] * np.abs(expected.astype(np.float64)).max()
    assert difference <= limit, f"largest difference {difference:.3g}, allowed {limit:.3g}"


def expected_of(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    names = [value.name for value in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(names, feeds)))


class Contract:
    """What every engine that runs on this machine promises."""

    backend = ""

    def build(self, asked: base.BuildRequest) -> Engine:
        return base.build(self.backend, asked)

    @pytest.mark.parametrize("make", [conv_graph, gather_graph])
    def test_results_match_the_reference(self, make, tmp_path):
        asked = request(make(), tmp_path)
        engine = self.build(asked)
        feeds = feeds_for(asked.inputs)
        with base.open_session(engine, asked.out_dir) as session:
            got = session.run(feeds)
        for name, value in expected_of(make(), feeds).items():
            assert_close(got[name], value, "fp32")

    def test_any_batch_of_the_profile_runs(self, tmp_path):
        asked = request(conv_graph(), tmp_path, batch=BATCH)
        engine = self.build(asked)
        with base.open_session(engine, asked.out_dir) as session:
            for which in ("min", "max", "opt"):
                feeds = feeds_for(asked.inputs, which)
                assert_close(session.run(feeds)["pooled"], expected_of(conv_graph(), feeds)["pooled"], "fp32")

    def test_outputs_are_named_and_in_the_order_of_the_request(self, tmp_path):
        asked = request(gather_graph(), tmp_path)
        engine = self.build(asked)
        with base.open_session(engine, asked.out_dir) as session:
            assert [spec.name for spec in session.inputs] == ["rows", "offset"]
            assert list(session.run(feeds_for(asked.inputs))) == ["squared", "moved"]

    def test_outputs_belong_to_the_caller(self, tmp_path):
        asked = request(conv_graph(), tmp_path)
        engine = self.build(asked)
        with base.open_session(engine, asked.out_dir) as session:
            first = session.run(feeds_for(asked.inputs, seed=1))["pooled"]
            before = first.copy()
            session.run(feeds_for(asked.inputs, seed=2))
            assert np.array_equal(first, before)
            first[:] = 0  # writable

    def test_feeds_that_do_not_fit_are_refused(self, tmp_path):
        asked = request(conv_graph(), tmp_path, batch=BATCH)
        engine = self.build(asked)
        good = feeds_for(asked.inputs)["x"]
        wrong = {
            "is missing": {},
            "is called": {"x": good, "extra": good},
            "wrong dtype": {"x": good.astype(np.float64)},
            "wrong shape": {"x": np.zeros((5, 8, 8, 8), np.float32)},
        }
        with base.open_session(engine, asked.out_dir) as session:
            for words, feeds in wrong.items():
                with pytest.raises(UsageError, match=words):
                    session.run(feeds)
            session.run({"x": good})  # a refusal leaves the session usable

    def test_a_closed_session_refuses_and_closes_again(self, tmp_path):
        asked = request(conv_graph(), tmp_path)
        engine = self.build(asked)
        with base.open_session(engine, asked.out_dir) as session:
            session.run(feeds_for(asked.inputs))
        session.close()
        with pytest.raises(EngineError, match="closed"):
            session.run(feeds_for(asked.inputs))

    def test_the_engine_lies_whole_in_its_folder(self, tmp_path):
        asked = request(conv_graph(), tmp_path)
        engine = self.build(asked)
        on_disk = {path.relative_to(asked.out_dir).as_posix() for path in asked.out_dir.rglob("*") if path.is_file()}
        assert on_disk == set(engine.files)
        assert engine.backend == self.backend and engine.state == "built" and engine.size_bytes > 0
        asked.model.unlink()  # the bundle must not need what it was built from
        moved = tmp_path / "moved"
        asked.out_dir.rename(moved)
        with base.open_session(engine, moved) as session:
            session.run(feeds_for(asked.inputs))
        (moved / engine.files[0]).unlink()
        with pytest.raises(EngineError, match="missing"):
            base.open_session(engine, moved)

    def test_weights_beside_the_model_are_carried_along(self, tmp_path):
        asked = request(conv_graph(), tmp_path)
        onnx.save(conv_graph(), str(asked.model), save_as_external_data=True, location="weights.bin", size_threshold=0)
        engine = self.build(asked)
        feeds = feeds_for(asked.inputs)
        (tmp_path / "weights.bin").unlink()
        with base.open_session(engine, asked.out_dir) as session:
            assert_close(session.run(feeds)["pooled"], expected_of(conv_graph(), feeds)["pooled"], "fp32")

    def test_kernels_are_read_back_in_fp32(self, tmp_path):
        engine = self.build(request(conv_graph(), tmp_path))
        assert engine.kernels and all(kernel.time_us is None for kernel in engine.kernels)
        assert sum(count for _, count in engine.precision_built) == len(engine.kernels)
        assert {kernel.precision for kernel in engine.kernels} == {"fp32"}

    @pytest.mark.parametrize("size", [0, 40, 400])
    def test_a_truncated_model_is_refused_and_leaves_nothing(self, size, tmp_path):
        asked = request(conv_graph(), tmp_path)
        asked.model.write_bytes(asked.model.read_bytes()[:size])
        with pytest.raises(UsageError):
            self.build(asked)
        assert list(asked.out_dir.glob("*")) == []

    def test_other_borders_than_the_models_are_refused(self, tmp_path):
        asked = request(conv_graph(), tmp_path)
        renamed = TensorSpec("image", "float32", asked.inputs[0].shape)
        retyped = TensorSpec("x", "float16", asked.inputs[0].shape)
        for inputs in ((renamed,), (retyped,)):
            with pytest.raises(UsageError):
                self.build(base.BuildRequest(**{**vars(asked), "inputs": inputs}))

    def test_unknown_options_and_precisions_are_refused(self, tmp_path):
        with pytest.raises(UsageError, match="option"):
            self.build(request(conv_graph(), tmp_path, options={"faster": "yes"}))
        with pytest.raises(UsageError, match="int4"):
            self.build(request(conv_graph(), tmp_path, precision="int4"))

    def test_a_broken_build_keeps_the_engine_before_it(self, tmp_path):
        asked = request(conv_graph(), tmp_path)
        engine = self.build(asked)
        onnx.save(unknown_operator_graph(), str(asked.model))
        with pytest.raises((EngineError, TargetError, UsageError)):
            self.build(asked)
        with base.open_session(engine, asked.out_dir) as session:
            session.run(feeds_for(asked.inputs))
