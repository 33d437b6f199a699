"""Which graph node each OpenVINO operator came from, so that its kernels can be traced to the ONNX graph.

OpenVINO names an operator after its ONNX node, or after the output tensor where that is an output of the model, and one
node may become several operators ("conv1/WithoutBiases" and "conv1"; "Softmax_563" and a Reshape). A compiled kernel
reports the names of the operators that it swallowed (`originalLayersNames`). So, before compiling:

1. an operator whose output carries the tensor name of a node's output belongs to that node;
2. any other operator belongs to the node of the operators that read it, if they agree, walking from the outputs back.

Seen with OpenVINO 2026.4: when its compiler folds a BatchNormalization into the convolution before it, the kernel keeps
the name of the normalization and drops that of the convolution. `absorbed` holds those pairs; they are taken from the
graph, and a kernel that ran for the one also counts as the kernel of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwc.errors import UsageError

_DROPPED = ("Dropout", "Identity")
_FOLDING = ("BatchNormalization",)
_FOLDED_INTO = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Names:
    """`owner`: operator -> graph node. `absorbed`: a normalization -> the convolution whose only reader it is."""

    owner: dict[str, str]
    absorbed: dict[str, str]

    def sources(self, operators: Iterable[str]) -> tuple[str, ...]:
        """The graph nodes of those operators, each once, in graph order as far as OpenVINO keeps it."""
        found: list[str] = []
        for operator in operators:
            node = self.owner.get(operator)
            if node is None:
                continue
            for name in (self.absorbed.get(node), node):
                if name is not None and name not in found:
                    found.append(name)
        return tuple(found)


def read_names(path: Path, model: Any) -> Names:
    """Names for `model`, which OpenVINO read from the ONNX file `path` and nothing has changed since.

    Raises:
        UsageError: not a readable ONNX file.
    """
    import onnx

    try:
        nodes = onnx.load(str(path), load_external_data=False).graph.node
    except Exception as error:  # protobuf's decode errors share no public base class
        raise UsageError(
            f"cannot read the ONNX file {path.name}", got=f"{type(error).__name__}: {error}", do="export it again"
        ) from None
    # An unnamed node is called after its first output, as OpenVINO does.
    made_by: dict[str, str] = {}
    for node in nodes:
        # A node that does nothing leaves its output's name on the operator before it: that one does the work.
        does_work = node.op_type not in _DROPPED or node.input[0] not in made_by
        maker = (node.name or node.output[0]) if does_work else made_by[node.input[0]]
        made_by.update({output: maker for output in node.output if output})
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    absorbed = {}
    for node in nodes:
        after = readers.get(node.output[0], []) if node.output else []
        if node.op_type in _FOLDED_INTO and len(after) == 1 and after[0].op_type in _FOLDING:
            absorbed[after[0].name or after[0].output[0]] = node.name or node.output[0]
    return Names(_owners(model, made_by), absorbed)


def _owners(model: Any, made_by: dict[str, str]) -> dict[str, str]:
    owner: dict[str, str] = {}
    # Reverse order: every reader is settled before what it reads.
    for operator in reversed(model.get_ordered_ops()):
        if operator.get_type_name() in ("Parameter", "Result"):
            continue
        tensors = [name for output in operator.outputs() for name in output.get_names()]
        nodes = {made_by[name] for name in tensors if name in made_by}
        if not nodes:
            if tensors:  # an input or a weight: it has a name in the graph and no node makes it
                continue
            readers = (target.get_node() for output in operator.outputs() for target in output.get_target_inputs())
            nodes = {owner[name] for name in (reader.get_friendly_name() for reader in readers) if name in owner}
        if len(nodes) == 1:
            owner[operator.get_friendly_name()] = nodes.pop()
    return owner
