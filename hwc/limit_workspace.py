"""The limit of TensorRT's workspace on a board whose CPU and GPU share one memory. A limit, not a measurement.

TensorRT's own default is all of the device's memory, which on such a board is also the system's: a build that tries a
tactic with a huge scratch buffer then ends in the kernel killing a process. The rule:

    workspace <= SHARE * memory - 2 * weights - activations            at least LEAST, rounded down to whole MiB

SHARE is one half: the rest is for the system, CUDA's context and libraries, the application, and what firmware carves
out of the label's size. Weights count twice, because while it builds TensorRT holds the network it parsed and the
engine it makes. Activations are the most bytes alive at once when the graph runs node by node at its largest shapes,
with the graph's own types: an upper estimate, since an engine fuses nodes and may narrow types.

Limits: a tensor whose size the graph does not state counts as 1 along each open dimension and is counted in the
sentence; what the chosen tactics really need is known only after the build. SHARE and LEAST are choices, not facts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hwc.artifacts import Target, TensorSpec

SHARE = 0.5
LEAST = 32 << 20
_MIB = 1 << 20


@dataclass(frozen=True)
class Limit:
    """A number of bytes, the sentence that explains it, and whether the rule left less than LEAST."""

    size_bytes: int
    why: str
    is_tight: bool


def limit_workspace(model: Path, inputs: tuple[TensorSpec, ...], target: Target) -> Limit | None:
    """The limit for that model on that target; None where GPU memory is its own, or its size is not known."""
    unified = target.facts.get("memory.unified")
    if unified is None or unified.value is not True or not target.knows("memory.size_gb"):
        return None
    memory = int(target.number("memory.size_gb") * 2**30)
    weights, activations, unsized = count_bytes(model, inputs)
    left = int(SHARE * memory) - 2 * weights - activations
    size = max(left, LEAST) // _MIB * _MIB
    why = (
        f"a limit, not a measurement: {SHARE:g} of {target.number('memory.size_gb'):g} GB shared memory, less twice "
        f"{weights / _MIB:.1f} MiB of weights and {activations / _MIB:.1f} MiB of activations"
    )
    if unsized:
        why += f" ({unsized} tensors have open dimensions that counted as 1)"
    if left < LEAST:
        why += f"; that leaves less than {LEAST // _MIB} MiB, which is what was taken: the model may not fit this board"
    return Limit(size, why, left < LEAST)


def count_bytes(model: Path, inputs: tuple[TensorSpec, ...]) -> tuple[int, int, int]:
    """(weights, most activations alive at once, number of tensors with an open dimension): the first two in bytes.

    Args:
        model: an ONNX file whose values have shapes.
        inputs: its inputs; open dimensions are taken at their largest.
    """
    import onnx_ir as ir

    loaded = ir.load(model)
    sizes: dict[str, int] = {}
    for value in loaded.graph.inputs:
        spec = next((spec for spec in inputs if spec.name == value.name), None)
        for dim, size in zip(value.shape or (), spec.at("max") if spec is not None else ()):
            if not isinstance(dim, int):
                sizes[str(dim.value)] = size
    weights = sum(v.const_value.nbytes for v in loaded.graph.initializers.values() if v.const_value is not None)
    nodes = list(loaded.graph)
    place = {node: index for index, node in enumerate(nodes)}
    change = [0] * (len(nodes) + 2)  # bytes that come alive before, or die after, each node
    unsized = 0
    for value in [*loaded.graph.inputs, *(out for node in nodes for out in node.outputs)]:
        size, is_open = _size_of(value, sizes)
        unsized += is_open
        producer = value.producer()
        born = 0 if producer is None else place[producer]
        # A use inside a body is a use by its outer node, and is not looked for: alive to the end is on the safe side.
        uses = [place.get(user, len(nodes) - 1) for user, _ in value.uses()]
        last = len(nodes) - 1 if value.is_graph_output() else max(uses, default=born)
        change[born] += size
        change[last + 1] -= size
    most = alive = 0
    for delta in change:
        alive += delta
        most = max(most, alive)
    return weights, most, unsized


def _size_of(value: object, sizes: dict[str, int]) -> tuple[int, bool]:
    """(bytes, whether a dimension is not known)."""
    import onnx_ir as ir

    assert isinstance(value, ir.Value)
    if value.shape is None or value.dtype is None:
        return 0, True
    known = [dim if isinstance(dim, int) else sizes.get(str(dim.value)) for dim in value.shape]
    count = math.prod(1 if dim is None or dim < 0 else dim for dim in known)
    return math.ceil(count * value.dtype.itemsize), None in known
