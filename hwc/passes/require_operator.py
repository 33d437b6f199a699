"""Whether an operator that a pass wants to write exists: in the model's opset, and in the target's parser.

ONNX says in which opset an operator appeared (https://onnx.ai/onnx/operators). That an opset has it does not mean that
an old TensorRT reads it: TensorRT 8.5, which is where Xavier ends, has no LayerNormalization, 8.2, where Nano ends, no
HardSwish. Written-out arithmetic, on the other hand, every version reads.

The TensorRT versions below are the first whose ONNX parser imports the operator: builtin_op_importers.cpp and
onnxOpImporters.cpp at the branches 8.2-GA to 10.1-GA of https://github.com/onnx/onnx-tensorrt. That of Swish is not
known, as 10.1 does not import it. TensorRT for RTX 1.7 said yes to all when its parser was asked
(`OnnxParser.supports_operator`), and OpenVINO 2026.4 compiled all of them.
"""

from __future__ import annotations

from hwc.artifacts import Target
from hwc.graph.match import require

_FIRST_OPSET = {
    "HardSigmoid": 6, "InstanceNormalization": 6, "HardSwish": 14, "LayerNormalization": 17, "Gelu": 20, "Swish": 24,
}  # fmt: skip
_FIRST_TENSORRT: dict[str, tuple[int, int] | None] = {
    "HardSwish": (8, 4), "LayerNormalization": (8, 6), "Gelu": (10, 0), "Swish": None,
}  # fmt: skip


def require_operator(op_type: str, opset: int, target: Target) -> None:
    """A near miss unless both have it.

    Args:
        op_type: an operator of the default domain that the table of opsets lists.
        opset: the model's.
    """
    needed = _FIRST_OPSET[op_type]
    require(opset >= needed, f"{op_type} needs opset {needed}, the model has {opset}")
    if target.engine != "tensorrt" or op_type not in _FIRST_TENSORRT:
        return
    first = _FIRST_TENSORRT[op_type]
    require(first is not None, f"no version of TensorRT is known to read {op_type}")
    assert first is not None
    require(target.knows("software.tensorrt"), f"{op_type} needs a TensorRT version, which {target.name} does not know")
    version = str(target.fact("software.tensorrt").value)
    have = tuple(int(part) for part in version.split(".")[:2])
    require(have >= first, f"{op_type} needs TensorRT {first[0]}.{first[1]}, {target.name} has {version}")
