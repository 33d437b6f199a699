"""Evaluates what does not depend on the input, whole chains in one run.

1. A node whose inputs are all constants is run by onnx's reference evaluator and becomes an initializer; so does a
   Constant node.
2. Shape and Size of what is known become constants. Of a partly dynamic shape the known entries are followed through
   Gather, Slice, Concat, ...: such operators only move numbers, so the unknown ones are set to two different marks,
   and where both results agree no mark has arrived.
3. `If` with a constant condition gives way to the branch that is taken.
4. Where with a condition that is all true or all false gives way to that operand, if the shape is the same.

A result that outgrows its inputs by more than 1 MiB (Expand, Tile, ConstantOfShape, Range) stays a node, since the file
and the engine would carry it as bytes; unless it ends, directly or by further constants, in a weight operand of Conv,
Gemm, MatMul, ..., which engines want as data whatever its size. Limits: random operators never fold; QuantizeLinear and
DequantizeLinear never do, as they say what precision a weight has; results that name a graph output stay.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import is_op
from hwc.graph.model import Namer, add_initializer, constant_array, opset
from hwc.graph.shapes import infer_shapes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.inline_branch import inline_branch

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
_NEVER = (*_RANDOM, "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Dropout")
_WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "BatchNormalization": (1, 2, 3, 4),
    "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2), "GroupNormalization": (1, 2), "PRelu": (1,),
    "LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3), "Gather": (0,), "ConvInteger": (1,),
}  # fmt: skip
_MOVES = ("Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast", "Identity", "Reshape", "Shape", "Size", "Split")
_MARKS = (-1_000_003, -2_000_003)  # as sizes, these are in no graph
_WIDE = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.DOUBLE)
_MAX_GROWTH_BYTES = 1 << 20


def fold_constants(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the four cases."""
    names = Namer(model)
    total = 0
    while True:
        folder = _Folder(model, names)
        folded = folder.run()
        total += folded
        if not folded:
            return PassReport(total, tuple(folder.misses))
        # New constants fix shapes further on (a Reshape to them, an inlined branch), and those fold in the next round.
        infer_shapes(model, "while constants were folded")


class _Folder:
    """One walk over the model in graph order."""

    def __init__(self, model: ir.Model, names: Namer) -> None:
        self.model, self.names, self.version = model, names, opset(model)
        self.misses: list[NearMiss] = []
        self.partial: dict[ir.Value, tuple[np.ndarray, np.ndarray]] = {}
        self.weights = self._find_weights()

    def run(self) -> int:
        count = 0
        for node in list(self.model.graph.all_nodes()):
            # A node of a branch that was not taken is in no graph any more.
            if node.graph is None or node.domain not in ("", "ai.onnx"):
                continue
            if is_op(node, "If"):
                condition = constant_array(node.inputs[0])
                if condition is not None:
                    inline_branch(self.model, node, bool(condition.reshape(-1)[0]), self.names)
                    count += 1
            elif is_op(node, "Where") and self._fold_where(node):
                count += 1
            else:
                count += self._fold(node)
        return count

    def _fold(self, node: ir.Node) -> int:
        if not _may_fold(node):
            return 0
        arrays = [constant_array(value) for value in node.inputs]
        is_constant = all(value is None or a is not None for value, a in zip(node.inputs, arrays))
        if is_op(node, "Shape", "Size") or (not is_constant and is_op(node, *_MOVES)):
            results = self._move(node)
        elif is_op(node, "Constant"):
            held = constant_array(node.outputs[0])
            results = None if held is None else [held]
            arrays = [held]
        elif is_constant:
            # ConstantOfShape and Expand announce their size: look before the memory is taken.
            if self._is_too_large(node, sum(_bytes(v) for v in node.outputs), arrays):
                return 0
            results = self._evaluate(node, arrays)
        else:
            return 0
        if results is None or self._is_too_large(node, sum(a.nbytes for a in results), arrays):
            return 0
        if any(value.is_graph_output() for value in node.outputs):
            if not is_op(node, "Constant"):
                self._miss(node, "it names a graph output")
            return 0
        for value, array in zip(node.outputs, results):
            if value.uses():
                assert isinstance(node.graph, ir.Graph)
                name, value.name = str(value.name), None
                value.replace_all_uses_with(add_initializer(node.graph, name, array))
        _remove(node)
        return 1

    def _move(self, node: ir.Node) -> list[np.ndarray] | None:
        """The results, if the known entries of shapes decide them; else notes what is known of them."""
        if is_op(node, "Shape", "Size") and node.inputs[0] is not None and node.inputs[0].shape is not None:
            dims = list(node.inputs[0].shape)
            runs = [[np.array([d if isinstance(d, int) else mark for d in dims], np.int64)] for mark in _MARKS]
            if node.op_type == "Shape":
                start, end = (node.attributes[a].value if a in node.attributes else None for a in ("start", "end"))
                runs = [[run[0][start:end]] for run in runs]
            elif all(isinstance(d, int) for d in dims):
                runs = [[np.array(np.prod(run[0]), np.int64)] for run in runs]
            else:
                return None
        else:
            pairs = [self._pair(value) for value in node.inputs]
            if any(value is not None and pair is None for value, pair in zip(node.inputs, pairs)):
                return None
            if is_op(node, "Shape", "Size"):
                return None
            if node.op_type == "Cast" and node.attributes["to"].value not in _WIDE:
                return None  # a narrow type would turn both marks into one value
            # Only what is moved may be unknown: a marked index or length would move other things elsewhere.
            data = len(node.inputs) if node.op_type == "Concat" else 1
            if any(p is not None and not np.array_equal(*p) for p in pairs[data:]):
                return None
            each = [self._evaluate(node, [None if p is None else p[i] for p in pairs]) for i in (0, 1)]
            if each[0] is None or each[1] is None:
                return None
            runs = [each[0], each[1]]
        if all(np.array_equal(a, b) for a, b in zip(*runs)):
            return runs[0]
        for value, a, b in zip(node.outputs, *runs):
            self.partial[value] = (a, b)
        return None

    def _pair(self, value: ir.Value | None) -> tuple[np.ndarray, np.ndarray] | None:
        if value is None or value in self.partial:
            return None if value is None else self.partial[value]
        array = constant_array(value)
        return None if array is None else (array, array)

    def _evaluate(self, node: ir.Node, arrays: list[np.ndarray | None]) -> list[np.ndarray] | None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        inputs = ["" if a is None else f"i{index}" for index, a in enumerate(arrays)]
        outputs = [f"o{index}" for index in range(len(node.outputs))]
        proto = ir.to_proto(node)
        del proto.input[:], proto.output[:]
        proto.input.extend(inputs)
        proto.output.extend(outputs)
        graph = onnx.helper.make_graph(
            [proto], "one",
            [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in inputs if n],
            [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in outputs],
        )
        whole = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self.version)])
        feeds = {name: array for name, array in zip(inputs, arrays) if array is not None}
        try:
            with np.errstate(all="ignore"):
                results = [np.asarray(a) for a in ReferenceEvaluator(whole).run(None, feeds)]
        except Exception as error:  # the evaluator raises whatever numpy raises
            self._miss(node, f"the reference evaluator cannot run it: {type(error).__name__}: {error}"[:200])
            return None
        for value, array in zip(node.outputs, results):
            # Its answer must be of the type that ONNX promises; a few operators promote as numpy does.
            if value.dtype is not None and array.dtype != value.dtype.numpy():
                self._miss(node, f"the reference evaluator gives {array.dtype}, ONNX says {value.dtype}")
                return None
        return results

    def _fold_where(self, node: ir.Node) -> bool:
        condition = constant_array(node.inputs[0])
        if condition is None or not (condition.all() or not condition.any()):
            return False
        chosen, out = node.inputs[1 if condition.all() else 2], node.outputs[0]
        static = chosen is not None and chosen.shape is not None and out.shape is not None and chosen.shape.is_static()
        if not static or chosen.shape != out.shape or out.is_graph_output():  # type: ignore[union-attr]
            return False
        out.replace_all_uses_with(chosen)  # type: ignore[arg-type]
        _remove(node)
        return True

    def _find_weights(self) -> set[ir.Value]:
        """Values that end in a weight operand, by constants only."""
        constants: set[ir.Value] = set()
        nodes = list(self.model.graph.all_nodes())
        for node in nodes:
            known = (v is None or v in constants or constant_array(v) is not None for v in node.inputs)
            if _may_fold(node) and all(known):
                constants.update(node.outputs)
        weights: set[ir.Value] = set()
        for node in reversed(nodes):
            slots = _WEIGHTS.get(node.op_type, ())
            feeds = any(v in weights for v in node.outputs)
            for index, value in enumerate(node.inputs):
                if value in constants and (feeds or index in slots):
                    weights.add(value)
        return weights

    def _is_too_large(self, node: ir.Node, after: int, arrays: list[np.ndarray | None]) -> bool:
        growth = after - sum(a.nbytes for a in arrays if a is not None)
        if growth <= _MAX_GROWTH_BYTES or any(value in self.weights for value in node.outputs):
            return False
        self._miss(node, f"the constant would be {growth} bytes larger than what it is made from, and is no weight")
        return True

    def _miss(self, node: ir.Node, reason: str) -> None:
        self.misses.append(NearMiss(str(node.name), reason))


def _may_fold(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type in _NEVER:
        return False
    has_graph = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    return not has_graph and bool(node.outputs)


def _bytes(value: ir.Value) -> int:
    if value.shape is None or value.dtype is None or not value.shape.is_static():
        return 0
    return int(np.prod(value.shape.numpy(), dtype=np.float64) * value.dtype.itemsize)


def _remove(node: ir.Node) -> None:
    """Removes the node and the initializers that only it read."""
    held = {value for value in node.inputs if value is not None}
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    for value in held:
        if value.is_initializer() and not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            assert value.graph is not None
            del value.graph.initializers[str(value.name)]
