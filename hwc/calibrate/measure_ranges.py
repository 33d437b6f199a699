"""The largest magnitude of every float tensor of a graph on given inputs: amax(t) = max over inputs of max |t|.

All intermediate tensors become outputs of a copy of the graph, which is run as it is written, so each tensor exists.
Values that are not finite are reported as infinity, never skipped: an overflow in FP32 is an overflow in FP16 too.

Limit: keeps all activations of one inference in memory at once. Tensors inside subgraphs (If, Loop) are not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from hwc.graph.evaluate import Evaluator

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def measure_ranges(model: ir.Model, feeds: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """amax of every float input and of every float tensor that a node of the main graph makes.

    Args:
        feeds: one mapping input name -> array per inference; streamed, so memory does not grow with their number.

    Raises:
        EngineError: the graph cannot be run.
    """
    probe = model.clone()
    listed = {value.name for value in probe.graph.outputs}
    for node in probe.graph:
        for value in node.outputs:
            if value.dtype in _FLOATS and value.name and value.name not in listed:
                probe.graph.outputs.append(value)
    evaluator = Evaluator(probe)
    ranges: dict[str, float] = {}
    for feed in feeds:
        for name, array in [*evaluator.run(feed).items(), *feed.items()]:
            if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size:
                ranges[name] = max(ranges.get(name, 0.0), largest_magnitude(array))
    return ranges


def largest_magnitude(array: np.ndarray) -> float:
    """max |x|, infinity if anything is not finite."""
    largest = max(abs(float(array.max())), abs(float(array.min())))
    return largest if np.isfinite(largest) else float("inf")
