"""What a built engine consists of: which graph nodes became which kernel, in which precision.

All of it comes from `Engine.kernels`, which a backend read back from what it built; the ONNX graph is never asked.

What counts as a kernel is one rule per runtime, the same for every engine of that runtime, so two engines of one
runtime may be compared by `len(engine.kernels)`; engines of different runtimes may not:

- tensorrt, tensorrt_rtx: every layer of the engine except stream signals and waits and layers that only name a view
  (LayerType `signal`, `wait`, `NoOp`, `shape_call`). Layout changes count. Kernels without inputs, which fill
  constants, count too; the backend gives their number in a note.
- openvino: every node of the execution graph that the profiler saw run. Layout changes (`Reorder`) count.
- onnxruntime: every node that the profiler saw run.
- reference: every node of the graph.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Dict, List, Sequence, Tuple

from hwc.artifacts import Engine, Kernel
from hwc.errors import TargetError, UsageError

PRECISIONS = ("fp32", "fp16", "bf16")
# Kinds of the runtimes for layers that hold nearly all arithmetic: their precision is what a user means by precision.
_HEAVY = re.compile(r"conv(?!ert)|corr|gemm|matmul|matrixmul|fullyconnected|innerproduct")
_BITS = {"fp32": 32, "tf32": 19, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4}


def kernels_by_source(engine: Engine) -> Dict[str, Kernel]:
    """Graph node -> the kernel that computes it. Nodes that no kernel names (folded away) are absent.

    A node that was split over several kernels maps to the last of them, the one that makes its output.
    """
    return {node: kernel for kernel in engine.kernels for node in kernel.sources}


def totals(engine: Engine) -> Dict[str, Dict[str, int]]:
    """{"kind": {kind: kernels}, "precision": {precision: kernels}}, each with the largest first."""
    kinds = Counter(kernel.kind for kernel in engine.kernels)
    return {"kind": dict(kinds.most_common()), "precision": dict(count_precisions(engine.kernels))}


def count_precisions(kernels: Sequence[Kernel]) -> Tuple[Tuple[str, int], ...]:
    """(precision, number of kernels), the most frequent first; the form of `Engine.precision_built`."""
    return tuple(Counter(kernel.precision for kernel in kernels).most_common())


def is_heavy(kernel: Kernel) -> bool:
    """Whether the kernel is a convolution or a matrix product, by its kind and its name without its sources."""
    text = kernel.kind.lower()
    # TensorRT's own names of fused kernels say what is inside: __myl_CorrMulAddRelu.
    if kernel.name.startswith("__myl_"):
        text += kernel.name.lower()
    return _HEAVY.search(text) is not None


def check_precision(asked: str, kernels: Sequence[Kernel], backend: str) -> Tuple[str, ...]:
    """Compares the precision that was asked with the one that was built.

    At least one convolution or matrix product must run in `asked` (or be quantized), and none may run in a
    narrower floating-point type than that. Wider ones are legal, because accuracy may have asked for them: they are
    counted in the notes that are returned.

    Raises:
        TargetError: the engine's arithmetic is not what was asked.
    """
    heavy = [kernel for kernel in kernels if is_heavy(kernel)]
    built = Counter(kernel.precision for kernel in heavy)
    if not heavy:
        return ("no convolution or matrix product in this engine, so its precision was not checked",)
    quantized = [kernel for kernel in heavy if kernel.precision in ("int8", "fp8", "int4", "fp4")]
    wrong = [
        kernel
        for kernel in heavy
        if kernel not in quantized and kernel.precision != asked and _BITS.get(kernel.precision, 0) <= _BITS[asked]
    ]
    if wrong or not (quantized or built[asked]):
        culprit = (wrong or heavy)[0]
        raise TargetError(
            f"{backend} did not build what was asked",
            where=f"kernel '{culprit.name}'" + (f" (nodes {', '.join(culprit.sources)})" if culprit.sources else ""),
            expected=f"{asked} convolutions and matrix products",
            got=", ".join(f"{count} in {precision}" for precision, count in built.most_common()),
            do=f"give the graph {asked} types before building, or ask for {built.most_common(1)[0][0]}",
        )
    wider = len(heavy) - built[asked] - len(quantized)
    return (f"{wider} of {len(heavy)} convolutions and matrix products are wider than {asked}",) if wider else ()


def require_precision(asked: str) -> None:
    """Refuses a precision that no engine of this project has.

    Raises:
        UsageError: not one of fp32, fp16, bf16.
    """
    if asked not in PRECISIONS:
        raise UsageError(
            f"no engine is built in '{asked}'",
            expected=", ".join(PRECISIONS),
            got=asked,
            do="int8 is carried by Q/DQ in the graph; name the precision of everything else",
        )


def format_table(engine: Engine, *, width: int = 100) -> str:
    """One line per kernel in the order they run: number, kind, precision, time where measured, source nodes.

    Args:
        engine: any built engine.
        width: characters per line; source nodes that do not fit are counted, not dropped silently.
    """
    lines: List[str] = []
    timed = any(kernel.time_us is not None for kernel in engine.kernels)
    for number, kernel in enumerate(engine.kernels):
        took = f"{kernel.time_us:>9.1f} us " if kernel.time_us is not None else " " * 13 if timed else ""
        start = f"{number:>4}  {kernel.kind:<18.18} {kernel.precision:<6} {took} "
        lines.append(start + _sources_text(kernel, max(width - len(start), 20)))
    kinds = ", ".join(f"{kind} {count}" for kind, count in totals(engine)["kind"].items())
    precisions = ", ".join(f"{name} {count}" for name, count in totals(engine)["precision"].items())
    lines.append(f"{len(engine.kernels)} kernels of {engine.backend}: {kinds or 'none'}")
    lines.append(f"precision: {precisions or 'none'}")
    return "\n".join(lines) + "\n"


def _sources_text(kernel: Kernel, room: int) -> str:
    if not kernel.sources:
        return f"({kernel.name})"[:room]
    text = ""
    for index, node in enumerate(kernel.sources):
        piece = (" + " if index else "") + node
        left = len(kernel.sources) - index
        if index and len(text) + len(piece) + 8 > room:
            return f"{text} + {left} more"
        text += piece
    return text
