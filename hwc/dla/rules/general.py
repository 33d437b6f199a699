"""What holds for every layer: static shapes, element types, rank, sizes, batch; and operators that no source lists.

Limit: TensorRT may see a layer where the graph has none (a constant that is broadcast becomes a shuffle), and fold one
where the graph has several; the rules see the graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.tensors import batch_of, computed_inputs, static_dims, used_outputs

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
# Operators whose matrices are of rank 2: DLA sees them as 1x1 maps.
MATRIX_OPS = ("Gemm", "MatMul")


def check_general(node: ir.Node, board: Board) -> Iterator[Finding]:
    """Findings that do not depend on the operator."""
    judge = Judge(node, board)
    values = [*computed_inputs(node), *used_outputs(node)]
    for value in values:
        if static_dims(value) is None:
            yield judge.find(
                "general.static_shape", "dla.static_shapes", expected="every dimension fixed",
                got=f"'{value.name}' is {_shape_text(value)}", rewrite="fixed shape",
            )
            return
        if value.dtype not in FLOATS:
            yield judge.find(
                "general.type", "dla.precisions", expected=" or ".join(board.names("dla.precisions")),
                got=f"'{value.name}' is {value.dtype.name if value.dtype is not None else 'of unknown type'}",
            )
            return
    for value in values:
        dims = static_dims(value) or ()
        ranks = (2, 4) if node.op_type in MATRIX_OPS else (4,)
        if len(dims) not in ranks:
            yield judge.find(
                "general.rank", "dla.layer_types", expected="N, C, H, W", got=f"'{value.name}' is {_shape_text(value)}",
                rewrite="rank 4" if len(dims) < 4 else "",
            )
            return
        if max(dims[1:]) > board.number("dla.dim_max"):
            yield judge.find(
                "general.dimension", "dla.dim_max", expected=f"at most {board.number('dla.dim_max'):.0f}",
                got=f"'{value.name}' is {_shape_text(value)}",
            )
            return
        if batch_of(value) > board.number("dla.batch_max"):
            yield judge.find(
                "general.batch", "dla.batch_max", expected=f"at most {board.number('dla.batch_max'):.0f}",
                got=f"a batch of {batch_of(value)}",
            )
            return


def check_unlisted(
    node: ir.Node, board: Board, *, fact: str = "dla.layer_types", rewrite: str = ""
) -> Iterator[Finding]:
    """An operator that no source lists for DLA; `fact` holds the list of its kind."""
    yield Judge(node, board).find(
        "general.operator", fact, expected=", ".join(board.names(fact)), got=node.op_type, rewrite=rewrite
    )


def _shape_text(value: ir.Value) -> str:
    if value.shape is None:
        return "of unknown rank"
    return "x".join(str(dim) if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape)
