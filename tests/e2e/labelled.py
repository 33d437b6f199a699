"""A small residual classifier and labelled samples for it: the labels are what the FP32 network itself answers.

Conv, ReLU and MaxPool, a residual Add, a depthwise Conv, a global average pool and a Gemm: what Q/DQ have to
be placed in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CLASSES, CHANNELS = 8, 16


def write_classifier(folder: Path, *, outlier: float = 1.0, name: str = "classifier.onnx", seed: int = 0) -> Path:
    """The network as net.onnx.

    Args:
        outlier: gain of one channel of 'wide', undone by the layer behind it: the function stays, while the one scale
            of the tensor between them leaves the other channels no steps.
    """
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))).astype(np.float32)

    stem, a, b = weight(CHANNELS, 3, 3, 3), weight(CHANNELS, CHANNELS, 3, 3), weight(CHANNELS, CHANNELS, 3, 3)
    wide, narrow = weight(CHANNELS, CHANNELS, 1, 1), weight(CHANNELS, CHANNELS, 1, 1)
    wide[0] *= outlier
    narrow[:, 0] /= outlier
    constants = {
        "stem.w": stem, "a.w": a, "b.w": b, "wide.w": wide, "narrow.w": narrow, "depth.w": weight(CHANNELS, 1, 3, 3),
        "head.w": weight(CLASSES, CHANNELS), "head.b": (0.1 * rng.standard_normal(CLASSES)).astype(np.float32),
    }  # fmt: skip

    def conv(name: str, source: str, out: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, f"{name}.w"], [out], name=name, **attributes)

    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        conv("stem", "image", "s0", **same),
        helper.make_node("Relu", ["s0"], ["s1"], name="stem.act"),
        helper.make_node("MaxPool", ["s1"], ["s2"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        conv("a", "s2", "a0", **same),
        helper.make_node("Relu", ["a0"], ["a1"], name="a.act"),
        conv("b", "a1", "b0", **same),
        helper.make_node("Add", ["b0", "s2"], ["sum"], name="skip"),
        helper.make_node("Relu", ["sum"], ["r"], name="skip.act"),
        conv("wide", "r", "w0"),
        helper.make_node("Relu", ["w0"], ["w1"], name="wide.act"),
        conv("narrow", "w1", "n0"),
        conv("depth", "n0", "d0", group=CHANNELS, **same),
        helper.make_node("Relu", ["d0"], ["d1"], name="depth.act"),
        helper.make_node("GlobalAveragePool", ["d1"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "head.w", "head.b"], ["logits"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "classifier", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / name)
    return folder / name


def write_samples(folder: Path, model: Path, count: int, *, gain: float = 1.0, seed: int = 1, name: str = "") -> Path:
    """`count` smooth random images and the network's own answers, as an .npz; `gain` scales what is stored.

    The answers are those at gain 1, so a gain is a preprocessing that is not the model's.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 3, 4, 4)).astype(np.float32)
    images = np.repeat(np.repeat(coarse, 4, axis=2), 4, axis=3) + 0.1 * rng.standard_normal((count, 3, 16, 16))
    images = images.astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels = np.array([session.run(None, {"image": image[None]})[0].argmax() for image in images])
    path = folder / (name or f"samples{seed}.npz")
    np.savez(path, image=(images * gain).astype(np.float32), labels=labels)
    return path
