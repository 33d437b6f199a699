"""The element types that a node's inputs and outputs may have, read from the operator's own schema.

A slot is one input or output. Slots of a node that share a type variable ("T") must have one element type; a slot
whose type is fixed has no partner. This is what a pass needs that changes element types: there is no table of operators
that one could be forgotten in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx_ir as ir

_NAMES = {
    "float": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16,
    "double": ir.DataType.DOUBLE, "int8": ir.DataType.INT8, "int16": ir.DataType.INT16, "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64, "uint8": ir.DataType.UINT8, "uint16": ir.DataType.UINT16,
    "uint32": ir.DataType.UINT32, "uint64": ir.DataType.UINT64, "bool": ir.DataType.BOOL,
}  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """One input or output of a node.

    Args:
        position: index among the node's inputs, or among its outputs.
        variable: name of the type variable, "" where the type is fixed, differs per element, or is not known.
        allowed: element types of the schema; empty where the operator is not known or a body decides.
    """

    value: ir.Value
    position: int
    is_output: bool
    variable: str
    allowed: frozenset[ir.DataType]


def slots_of(node: ir.Node, version: int) -> tuple[Slot, ...]:
    """All slots that hold a value, inputs first. `version` is that of the default opset."""
    known = _parameters(node.op_type, version) if node.domain in ("", "ai.onnx") else None
    slots = []
    for is_output, values in ((False, node.inputs), (True, node.outputs)):
        parameters = known[is_output] if known is not None else ()
        for position, value in enumerate(values):
            if value is None or (is_output and not value.name):
                continue
            # The last parameter of a schema may be variadic, and stands for all that follow.
            variable, allowed = parameters[min(position, len(parameters) - 1)] if parameters else ("", frozenset())
            slots.append(Slot(value, position, is_output, variable, allowed))
    return tuple(slots)


@cache
def _parameters(op_type: str, version: int) -> Any:
    import onnx.defs

    try:
        schema = onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    variables = {c.type_param_str: _elements(c.allowed_type_strs) for c in schema.type_constraints}

    def read(parameter: Any) -> tuple[str, frozenset[ir.DataType]]:
        name = parameter.type_str
        if name not in variables:
            return "", _elements([name])
        # Operands of If, Loop and Scan may differ in type, and what each must be is said by a body.
        return (name, variables[name]) if parameter.is_homogeneous else ("", frozenset())

    return tuple(read(p) for p in schema.inputs), tuple(read(p) for p in schema.outputs)


def _elements(names: Any) -> frozenset[ir.DataType]:
    inner = (name[len("tensor("):-1] for name in names if name.startswith("tensor("))
    return frozenset(_NAMES[name] for name in inner if name in _NAMES)
