"""The judge itself, judged by hand-written numpy."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from hwc.engines import base
from hwc.errors import EngineError, TargetError
from tests.engines.contract import (
    Contract,
    assert_close,
    conv_graph,
    feeds_for,
    quantized_conv_graph,
    request,
    unknown_operator_graph,
)


class TestContract(Contract):
    backend = "reference"


def convolve(x, w):
    """A 3x3 convolution without padding, as its definition reads."""
    size = x.shape[2] - 2
    y = np.zeros((x.shape[0], w.shape[0], size, size), np.float64)
    for row in range(size):
        for column in range(size):
            y[:, :, row, column] = np.einsum("ncij,ocij->no", x[:, :, row : row + 3, column : column + 3], w)
    return y


def test_quantized_convolution_in_an_old_opset(tmp_path):
    asked = request(quantized_conv_graph(), tmp_path)
    engine = base.build("reference", asked)
    feeds = feeds_for(asked.inputs)
    with base.open_session(engine, asked.out_dir) as session:
        got = session.run(feeds)["y"]
    weight = np.random.default_rng(7).integers(-127, 127, (32, 32, 3, 3), np.int8)
    x = np.clip(np.rint(feeds["x"] * 32), -128, 127) / 32
    assert_close(got, convolve(x, weight / 128.0).astype(np.float32), "fp32")


def test_half_precision_graphs_run_in_half_precision(tmp_path):
    asked = request(conv_graph(TensorProto.FLOAT16), tmp_path, precision="fp16")
    engine = base.build("reference", asked)
    assert dict(engine.precision_built) == {"fp16": 3}
    with base.open_session(engine, asked.out_dir) as session:
        assert session.run(feeds_for(asked.inputs))["pooled"].dtype == np.float16


def test_a_precision_that_the_graph_does_not_have_is_refused(tmp_path):
    with pytest.raises(TargetError, match="stem/conv"):
        base.build("reference", request(conv_graph(), tmp_path, precision="fp16"))


def test_an_operator_that_the_evaluator_lacks_is_named(tmp_path):
    with pytest.raises(EngineError, match="NoSuchOperator"):
        base.build("reference", request(unknown_operator_graph(), tmp_path))


def test_the_tolerance_is_seen_to_fail(tmp_path):
    asked = request(conv_graph(), tmp_path)
    engine = base.build("reference", asked)
    feeds = feeds_for(asked.inputs)
    with base.open_session(engine, asked.out_dir) as session:
        value = session.run(feeds)["pooled"]
    for spoiled in (value * np.float32(1.0001), value + np.nan, value[:1]):
        with pytest.raises(AssertionError):
            assert_close(spoiled, value, "fp32")
