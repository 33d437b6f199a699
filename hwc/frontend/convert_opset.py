"""Rewrites a graph from one opset of the default domain to another, upwards and downwards, subgraphs included.

onnx's own converter is C++ that copies all weights, leaves subgraphs alone and aborts on some operators, so this is a
second one, driven by onnx's schemas. Per node, one version step of its operator at a time:

1. an adapter from the tables of opset_adapters.py, where the meaning or the place of an operand changed;
2. else the signatures decide: an absent attribute whose default changed is written out; an attribute that the other
   version lacks is dropped if it says that version's behaviour; anything else is refused, naming node and operator.

Limits: types are not converted: an older opset may not take bfloat16, and the strict shape inference that follows says
so. Operands that become attributes (downwards) must be constants.
Source: https://onnx.ai/onnx/repo-docs/Changelog.html.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir

from hwc.errors import UsageError
from hwc.frontend.opset_adapters import DOWN, UP, Context, Refused
from hwc.graph.match import attribute
from hwc.graph.model import opset

MIN_IR_VERSION = 8  # what opset 15 and later go with (onnx, docs/Versioning.md); engines check it


def convert_opset(model: ir.Model, version: int) -> tuple[str, ...]:
    """Converts `model` in place; nodes keep their names and origins.

    Needs every node and value named, functions inlined and constants lifted (`canonicalize` has done that).

    Returns:
        Notes: which operators were rewritten, and how often.

    Raises:
        UsageError: an operator has no equal in that opset. The model is then half converted: work on a clone.
    """
    current = opset(model)
    if current == version:
        return ()
    _check_version(version)
    context = Context(model)
    counts: dict[str, int] = {}
    for node in list(model.graph.all_nodes()):
        if node.domain in ("", "ai.onnx"):
            kind = node.op_type
            if _convert_node(node, current, version, context):
                counts[kind] = counts.get(kind, 0) + 1
    model.opset_imports.pop("ai.onnx", None)
    model.opset_imports[""] = version
    for graph in model.graphs():
        for node in graph:
            node.version = None
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)
    rewritten = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    return (f"opset {current} -> {version}" + (f"; rewritten: {rewritten}" if rewritten else ""),)


def _check_version(version: int) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not 7 <= version <= newest:
        raise UsageError("no such opset", expected=f"7 to {newest}", got=str(version))


@cache
def _steps(op_type: str) -> tuple[int, ...]:
    """All versions in which the operator changed, ascending."""
    import onnx.defs

    found = {s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == op_type and s.domain == ""}
    return tuple(sorted(found))


def _schema(op_type: str, version: int) -> Any:
    import onnx.defs

    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _convert_node(node: ir.Node, current: int, version: int, context: Context) -> bool:
    """Step by step to the target version; an adapter may change the operator, so steps are asked for anew each time."""
    changed = False
    up = version > current
    at = current
    while True:
        steps = _steps(node.op_type)
        ahead = [s for s in steps if at < s <= version] if up else [s for s in reversed(steps) if version < s <= at]
        if not ahead:
            break
        step = ahead[0]
        older = max((s for s in steps if s < step), default=0)
        try:
            if not older:
                raise Refused(f"it is new in opset {step}")
            changed |= _step(node, older, step, up, context)
        except Refused as refusal:
            raise UsageError(
                f"{node.op_type} cannot be converted from opset {current} to {version}",
                where=f"node '{node.name}'",
                got=str(refusal),
                do=f"export the model with opset {version}" if up else "keep a newer opset, or change the node",
            ) from None
        at = step if up else step - 1
    if _schema(node.op_type, version) is None or _schema(node.op_type, version).deprecated:
        raise UsageError(f"opset {version} has no operator {node.op_type}", where=f"node '{node.name}'")
    return changed


def _step(node: ir.Node, older: int, newer: int, up: bool, context: Context) -> bool:
    adapter = (UP if up else DOWN).get((node.op_type, newer))
    if adapter is not None:
        adapter(node, context)
    source, target = (older, newer) if up else (newer, older)
    return _fit_signature(node, _schema(node.op_type, source), _schema(node.op_type, target)) or adapter is not None


def _fit_signature(node: ir.Node, source: Any, target: Any) -> bool:
    """Rule 2. An adapter may have changed the operator itself, so a schema may be missing; that is judged later."""
    if target is None or target.deprecated:
        if source is not None and (target is None or not source.deprecated):
            raise Refused("it was taken out of ONNX")
        return False
    changed = False
    for name in list(node.attributes):
        if name in target.attributes:
            continue
        # It goes if it only says what the operator does anyway.
        default = _default(source, name) if source is not None else None
        if attribute(node, name) != default or default is None:
            said = str(attribute(node, name)).partition("\n")[0][:60]
            raise Refused(f"its attribute {name}={said} is not known there")
        node.attributes.pop(name)
        changed = True
    for name in target.attributes:
        if source is None or name in node.attributes or name not in source.attributes:
            continue
        before, after = _default(source, name), _default(target, name)
        if before is not None and before != after:
            node.attributes[name] = ir.convenience.convert_attribute(name, before)
            changed = True
    while node.inputs and node.inputs[-1] is None and len(node.inputs) > target.min_input:
        node.resize_inputs(len(node.inputs) - 1)
    if not target.min_input <= len(node.inputs) <= target.max_input:
        raise Refused(f"it has {len(node.inputs)} inputs, and takes {target.min_input} to {target.max_input} there")
    if len(node.outputs) > target.max_output:
        raise Refused(f"it has {len(node.outputs)} outputs, and gives at most {target.max_output} there")
    return changed


def _default(schema: Any, name: str) -> Any:
    entry = schema.attributes.get(name)
    if entry is None or not entry.default_value.type:
        return None
    value = ir.serde.deserialize_attribute(entry.default_value).value
    return list(value) if isinstance(value, (tuple, list)) else value
