"""Writes a plan of tiles as ordinary ONNX nodes, so that any engine runs it.

A region becomes, tile after tile and each tile to its end: Slice of the cuts (halo included), the region's nodes with
this tile's padding, Slice where a node wants less than another reader of the same value; then Concat, the last axis
first. Weights are shared by all tiles. Moments of InstanceNormalization are combined over tiles t of n_t positions

    m = sum n_t m_t / n        v = sum n_t (q_t + (m_t - m)^2) / n        q_t = mean((x_t - m_t)^2)

(Chan, Golub, LeVeque 1979), which is exact algebra and does not subtract large squares; the norm is then
y = a x + b with a = scale / sqrt(v + epsilon) and b = bias - m a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute, static_shape
from hwc.graph.model import Namer, add_initializer, make_node, opset, remove_dead
from hwc.reduce.plan_tiles import Region, Segment, TilePlan, segments_of
from hwc.reduce.tile_ranges import Range, Ranges, ranges_of, resize_factors, tiled_inputs

Box = tuple[Range, ...]
_WINDOWS = ("Conv", "MaxPool", "AveragePool")


def write_tiles(model: ir.Model, plan: TilePlan) -> ir.Model:
    """A new model in which the plan's regions run tile by tile; `model`, for which the plan was made, is left alone."""
    work = model.clone()
    nodes = {node.name: node for node in work.graph}
    writer = _Writer(work)
    for region, grid in plan.regions:
        mine = tuple(nodes[node.name] for node in region.nodes)
        at = nodes[region.node.name]
        source = at.outputs[0] if region.kind == "join" else at.inputs[0]
        assert source is not None
        writer.write(Region(at, region.kind, source, mine), grid)
    writer.finish()
    remove_dead(work)
    return work


class _Writer:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._graph = model.graph
        self._namer = Namer(model)
        self._version = opset(model)
        self._ints: dict[tuple[int, ...], ir.Value] = {}
        self._stored: dict[ir.Value, ir.Value] = {}
        self._affine: dict[ir.Node, tuple[ir.Value, ir.Value]] = {}
        self._nodes: list[ir.Node] = []
        self._source: ir.Node | None = None
        self._count = 0

    def write(self, region: Region, grid: tuple[int, ...]) -> None:
        """One region, before the node for which it stands."""
        cut = [segments_of(region, axis, count) for axis, count in enumerate(grid)]
        self._nodes, self._source = [], region.node
        if region.kind == "join":
            result = self._join(region, cut, ())
            self._stored[region.source] = result
        else:
            moments = self._moments(region, cut)
            if region.kind == "mean":
                self._stored[region.node.outputs[0]] = moments[0]
            else:
                self._affine[region.node] = self._scale_and_shift(region.node, *moments)
        self._graph.insert_before(region.node, self._nodes)

    def finish(self) -> None:
        """Lets every reader that is left take the joined values, under their old names."""
        for old, new in self._stored.items():
            name = old.name
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            old.name, new.name = self._namer.fresh(f"{name}_whole"), name
            new.shape, new.type = old.shape, old.type

    def _join(self, region: Region, cut: Sequence[tuple[Segment, ...]], chosen: tuple[Segment, ...]) -> ir.Value:
        axis = len(chosen)
        if axis == len(cut):
            return self._tile(region, chosen)
        parts = [self._join(region, cut, (*chosen, segment)) for segment in cut[axis]]
        if len(parts) == 1:
            return parts[0]
        shape = list(static_shape(parts[0]))
        shape[axis + 2] = sum(static_shape(part)[axis + 2] for part in parts)
        return self._emit("Concat", "joined", parts, shape, axis=axis + 2)

    def _tile(self, region: Region, chosen: tuple[Segment, ...]) -> ir.Value:
        have: dict[ir.Value, tuple[ir.Value, Box]] = {}

        def take(value: ir.Value, box: Box) -> ir.Value:
            if value not in have:
                stored = self._stored.get(value, value)
                hull = tuple(segment.rows[value] for segment in chosen)
                whole = tuple((0, size) for size in static_shape(value)[2:])
                have[value] = self._crop(stored, whole, hull), hull
            made, at = have[value]
            return self._crop(made, at, box)

        for node in region.nodes:
            wanted = tuple(segment.rows[node.outputs[0]] for segment in chosen)
            needs = [ranges_of(node, axis, *rows) for axis, rows in enumerate(wanted)]
            inputs = [None if v is None else self._stored.get(v, v) for v in node.inputs]
            for position in tiled_inputs(node):
                value = node.inputs[position]
                assert value is not None
                inputs[position] = take(value, tuple(need.inputs[position] for need in needs))
            have[node.outputs[0]] = self._copy(node, inputs, needs), tuple(need.made for need in needs)
        return take(region.source, tuple(segment.rows[region.source] for segment in chosen))

    def _copy(self, node: ir.Node, inputs: list[ir.Value | None], needs: Sequence[Ranges]) -> ir.Value:
        """The node for one tile."""
        shape = [*static_shape(node.outputs[0])[:2], *[need.made[1] - need.made[0] for need in needs]]
        if node.op_type == "InstanceNormalization":
            scale, shift = self._affine[node]
            assert inputs[0] is not None
            scaled = self._emit("Mul", "scaled", [inputs[0], scale], shape, source=node)
            return self._emit("Add", "shifted", [scaled, shift], shape, source=node)
        attributes: dict[str, Any] = {name: attr for name, attr in node.attributes.items() if name != "auto_pad"}
        pads = [need.before for need in needs] + [need.after for need in needs]
        if node.op_type in _WINDOWS:
            attributes |= {"pads": pads} | ({"ceil_mode": 0} if "ceil_mode" in attributes else {})
        elif node.op_type == "ConvTranspose":
            attributes |= {"pads": pads, "output_padding": [need.extra for need in needs]}
        elif node.op_type == "Resize":
            assert inputs[0] is not None
            factors = np.array([1, 1, *resize_factors(node)], np.float32)
            inputs = [inputs[0], None, self._constant(factors, "factors")]
        return self._emit(node.op_type, "tile", inputs, shape, source=node, **attributes)

    def _crop(self, value: ir.Value, have: Box, want: Box) -> ir.Value:
        """Rows `want` of a value that holds rows `have`."""
        axes = [axis for axis, (a, b) in enumerate(zip(have, want)) if a != b]
        if not axes:
            return value
        shape = list(static_shape(value))
        for axis in axes:
            shape[axis + 2] = want[axis][1] - want[axis][0]
        starts = [want[axis][0] - have[axis][0] for axis in axes]
        ends = [want[axis][1] - have[axis][0] for axis in axes]
        operands = [self._numbers(*starts), self._numbers(*ends), self._numbers(*(axis + 2 for axis in axes))]
        return self._emit("Slice", "slice", [value, *operands], shape)

    def _moments(self, region: Region, cut: Sequence[tuple[Segment, ...]]) -> list[ir.Value]:
        """[mean] or [mean, variance] over all positions, each N x C x 1..."""
        shape = static_shape(region.source)
        each, axes = (*shape[:2], *[1] * len(cut)), list(range(2, len(shape)))
        tiles: list[tuple[Segment, ...]] = [()]
        for segments in cut:
            tiles = [(*tile, segment) for tile in tiles for segment in segments]
        shares, means, spreads = [], [], []
        for chosen in tiles:
            x = self._tile(region, chosen)
            shares.append(math.prod(static_shape(x)[2:]) / math.prod(shape[2:]))
            means.append(self._mean(x, axes, each))
            if region.kind == "moments":
                off = self._emit("Sub", "off", [x, means[-1]], static_shape(x))
                spreads.append(self._mean(self._emit("Mul", "squared", [off, off], static_shape(x)), axes, each))
        if len(tiles) == 1:
            return [means[0], *spreads]
        share = self._constant(np.array(shares, np.float32).reshape(*[1] * (len(shape) - 1), -1), "shares")
        center, gathered = self._weighted(means, share, each)
        if not spreads:
            return [center]
        row = (*each[:-1], len(tiles))
        between = self._emit("Sub", "between", [gathered, center], row)
        between = self._emit("Mul", "between_squared", [between, between], row)
        around = self._emit("Concat", "spreads", spreads, row, axis=len(shape) - 1)
        spread = self._emit("Mul", "shared", [self._emit("Add", "spread", [around, between], row), share], row)
        return [center, self._sum(spread, len(shape) - 1, each)]

    def _weighted(self, parts: Sequence[ir.Value], share: ir.Value, each: Sequence[int]) -> tuple[ir.Value, ir.Value]:
        row = (*each[:-1], len(parts))
        gathered = self._emit("Concat", "means", parts, row, axis=len(each) - 1)
        return self._sum(self._emit("Mul", "shared", [gathered, share], row), len(each) - 1, each), gathered

    def _mean(self, x: ir.Value, axes: list[int], shape: Sequence[int]) -> ir.Value:
        if self._version >= 18:  # the axes became an input
            return self._emit("ReduceMean", "mean", [x, self._numbers(*axes)], shape, keepdims=1)
        return self._emit("ReduceMean", "mean", [x], shape, axes=axes, keepdims=1)

    def _sum(self, x: ir.Value, axis: int, shape: Sequence[int]) -> ir.Value:
        return self._emit("ReduceSum", "sum", [x, self._numbers(axis)], shape, keepdims=1)

    def _scale_and_shift(self, node: ir.Node, mean: ir.Value, variance: ir.Value) -> tuple[ir.Value, ir.Value]:
        shape = static_shape(mean)
        row = (1, shape[1], *[1] * (len(shape) - 2))
        scale, bias = (
            self._emit("Reshape", "per_channel", [self._stored.get(v, v), self._numbers(*row)], row)  # type: ignore[arg-type]
            for v in node.inputs[1:3]
        )
        epsilon = self._constant(np.array(attribute(node, "epsilon", 1e-5), np.float32), "epsilon")
        guarded = self._emit("Add", "guarded", [variance, epsilon], shape)
        factor = self._emit("Div", "factor", [scale, self._emit("Sqrt", "deviation", [guarded], shape)], shape)
        moved = self._emit("Mul", "moved", [mean, factor], shape)
        return factor, self._emit("Sub", "shift", [bias, moved], shape)

    def _emit(
        self, kind: str, what: str, inputs: Sequence[ir.Value | None], shape: Sequence[int], *,
        source: ir.Node | None = None, **attributes: Any,
    ) -> ir.Value:  # fmt: skip
        stands_for = source or self._source
        assert stands_for is not None
        self._count += 1  # a number of its own, or looking for a free name takes longer with every tile
        name = self._namer.fresh(f"{stands_for.name}_{what}{self._count}")
        dtype = stands_for.outputs[0].dtype if source is not None else inputs[0].dtype  # type: ignore[union-attr]
        made = make_node(
            kind, inputs, name=name, outputs=[self._namer.fresh(f"{name}_out")], attributes=attributes, dtype=dtype,
            shapes=[shape], sources=[stands_for],
        )  # fmt: skip
        self._nodes.append(made)
        return made.outputs[0]

    def _numbers(self, *numbers: int) -> ir.Value:
        if numbers not in self._ints:
            self._ints[numbers] = self._constant(np.array(numbers, np.int64), "numbers")
        return self._ints[numbers]

    def _constant(self, array: np.ndarray, what: str) -> ir.Value:
        assert self._source is not None
        self._count += 1
        return add_initializer(self._graph, self._namer.fresh(f"{self._source.name}_{what}{self._count}"), array)
