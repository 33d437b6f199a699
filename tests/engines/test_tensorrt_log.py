"""The log's layer section, in the words of TensorRT for RTX 1.7.1, and the inspector's JSON of 8.5 and 11."""

from __future__ import annotations

import json

import pytest

from hwc.engines.tensorrt_log import (
    count_fills,
    dla_loadables_from_log,
    kernels_from_layers,
    layers_from_inspector,
    layers_from_log,
    memory_from_log,
    tactic_milliseconds,
)
from hwc.errors import EngineError


def tensor(name, dtype):
    return (
        f"{{ Name: {name}, Dimensions: [1,3,8,8], Strides: [192,64,8,1], StrideOrder: [3,2,1,0], Datatype: {dtype}, "
        "Format: (Linear) Row major linear format }"
    )


def line(name, kind, inputs="", constants="", outputs="", metadata="", extra=""):
    def listed(text):
        return f"[ {text}]" if text else "[]"

    return (
        f"Name: {name}, LayerType: {kind}, Inputs: {listed(inputs)}, Constants: {listed(constants)}, "
        f"Outputs: {listed(outputs)}, TacticName: t, StreamId: 0{extra}, Metadata: {metadata}"
    )


LOG = "\n".join(
    [
        "VERBOSE Layers:",
        line("old", "kgen"),
        "",
        "INFO Total Activation Memory: 18126848 bytes",
        "INFO Total Weights Memory: 1011712 bytes",
        "VERBOSE Layers:",
        line("s0", "signal", extra=", EventId: 1"),
        line("w0", "wait", extra=", EventId: 1"),
        line("shape", "shape_call"),
        line("__myl_Repl_1", "kgen", outputs=tensor("r", "Float")),
        line(
            "n0, and more",
            "correlation",
            tensor("a", "Half") + ", " + tensor("b", "Float"),
            tensor("w", "Half"),
            tensor("c", "Float"),
            "[ONNX Layer: n0][ONNX Layer: n[1]][ONNX Layer: n0]",
        ),
        line("ids", "kgen", tensor("i", "Int64") + ", " + tensor("t", "BFloat16"), metadata="[ONNX Layer: gather]"),
        line("count", "kgen", tensor("i", "Int64"), outputs=tensor("j", "Int64")),
        "",
        "I/O Tensors:",
    ]
)


def test_the_last_section_is_read():
    layers = layers_from_log(LOG)
    kernels = kernels_from_layers(layers)
    assert len(layers) == 7
    assert [kernel.name for kernel in kernels] == ["__myl_Repl_1", "n0, and more", "ids", "count"]
    assert [kernel.precision for kernel in kernels] == ["fp32", "fp16", "bf16", "int64"]
    assert kernels[1].sources == ("n0", "n[1]")
    assert count_fills(layers) == 1
    assert memory_from_log(LOG) == {"activation_bytes": 18126848, "weight_bytes": 1011712}
    assert memory_from_log("") == {"activation_bytes": None, "weight_bytes": None}


def test_a_log_without_the_section_or_with_a_strange_line_is_refused():
    with pytest.raises(EngineError, match="does not list"):
        layers_from_log("VERBOSE nothing here")
    with pytest.raises(EngineError, match="cannot be read"):
        layers_from_log("VERBOSE Layers:\nName: x, LayerType: kgen, something new\n")


def test_inspector_answers_of_two_generations():
    old = {
        "Name": "Conv_0 + Relu_1 + MaxPool_2",
        "LayerType": "CaskConvActPool",
        "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
        "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP32"}],
    }
    new = {
        "Name": "fused",
        "LayerType": "gemm",
        "Inputs": [{"Name": "x", "Datatype": "Half", "Format": "Row major linear"}],
        "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]",
    }
    reformat = {"Name": "Reformatting CopyNode for Input Tensor 0 to Conv_0", "LayerType": "Reformat"}
    view = {"Name": "slice", "LayerType": "NoOp"}
    pointwise = {"Name": "PWN(Sigmoid_2, Mul_3)", "LayerType": "PointWiseV2"}
    kernels = kernels_from_layers(layers_from_inspector(json.dumps({"Layers": [old, new, reformat, view, pointwise]})))
    assert [kernel.sources for kernel in kernels] == [
        ("Conv_0", "Relu_1", "MaxPool_2"),
        ("a", "b"),
        (),
        ("Sigmoid_2", "Mul_3"),
    ]
    assert [kernel.precision for kernel in kernels[:2]] == ["int8", "fp16"]


@pytest.mark.parametrize("text", ["", "[]", '{"Layers": ["conv"]}'])
def test_other_answers_are_refused(text):
    with pytest.raises(EngineError):
        layers_from_inspector(text)


def test_the_builders_own_times_are_added_up_per_layer_of_the_engine():
    text = "\n".join(
        [
            "VERBOSE --------------- Timing Runner: a + b (CaskConvolution[0x80000009])",
            "VERBOSE Tactic: 0x1 Time: 0.5",
            "VERBOSE Fastest Tactic: 0x00f3 Time: 0.25",
            "VERBOSE --------------- Timing Runner: a + b (CaskFlattenConvolution[0x80000036])",
            "VERBOSE Fastest Tactic: 0x0 Time: 0.75",  # another runner for the same layer, slower
            "[01/02/2026-10:11:12] [V] [TRT] c (PoolingV2[0x8]) profiling completed in 0.1 seconds. "
            "Fastest Tactic: 0x2 Time: 1e-1",
            "VERBOSE --------------- Timing Runner: not in the engine (Reformat)",
            "VERBOSE Fastest Tactic: 0x2 Time: 9",
        ]
    )
    layers = layers_from_inspector(json.dumps({"Layers": [{"Name": name} for name in ("a + b", "c", "never timed")]}))
    assert tactic_milliseconds(text, layers) == (0.35, 2)
    assert tactic_milliseconds("nothing", layers) == (0, 0)


def test_loadables_on_the_dla_are_those_that_the_log_names():
    log = (
        "INFO ---------- Layers Running on DLA ----------\nINFO [DlaLayer] {ForeignNode[/a/Conv.../a[0]/Relu]}\n"
        "[03/31/2022-14:34:54] [I] [TRT] [DlaLayer] {ForeignNode[Conv_0]}\n"
        "INFO ---------- Layers Running on GPU ----------\nINFO [GpuLayer] SHUFFLE: {ForeignNode[b]}\n"
    )
    assert dla_loadables_from_log(log) == ("/a/Conv.../a[0]/Relu", "Conv_0")
    assert dla_loadables_from_log("VERBOSE [DlaLayer] is a word\n") == ()
