"""Which tensors never exist as a whole, and into how many tiles their computation is cut.

The one choice is a set V of *virtual* values: those that are computed tile by tile, wherever they are needed, and
never stored whole. Everything else follows. Each stored value with a virtual input becomes a region: the nodes between
it and the nearest stored values, its *cuts*. A region runs once per tile of its result, on slices of its cuts that
hold the halo, and its tiles are joined. A virtual value read by two regions is computed in both: that is how the
skip connection of a U-Net is spared, at the price of computing the encoder's level again in the decoder.

InstanceNormalization and global means need all positions of their input first. So such a node with a virtual input or
output has a region of its own before it, which reduces each tile to moments; behind it the norm is y = a x + b.

Bytes alive while a region runs, for tiles of largest size:

    join       others + max(result + most alive inside one tile, 2 * result)    the join reads all tiles, writes one
    moments    others + most alive inside one tile

`others` are the stored values alive across the region, cuts included. Since the operators are separable per axis, the
rows that a tile needs are found per axis, and volumes are products; so are the sums over all tiles that give the price.

Prices are estimates: seconds of each node at full size (from the caller) times the share of its output that all tiles
together compute, a fixed time per kernel, and slices and joins by their bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import product

import onnx_ir as ir

from hwc.graph.match import NoMatch, static_shape
from hwc.reduce.live_bytes import is_weight, root_of, shares_input, size_of
from hwc.reduce.tile_ranges import Range, ranges_of, tiled_inputs

GLOBAL = ("InstanceNormalization", "GlobalAveragePool")
MAX_TILES = 256
_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
_LEAST_ROWS = 2  # a tile of single rows is all halo


@dataclass(frozen=True)
class Price:
    """What work costs on the target, in estimated seconds.

    Args:
        node_seconds: of one node run whole, its start included.
        start_seconds: of one more kernel.
        byte_seconds: of moving one byte.
    """

    node_seconds: Callable[[ir.Node], float]
    start_seconds: float
    byte_seconds: float


@dataclass(frozen=True)
class Region:
    """Nodes that run tile by tile.

    Args:
        node: where it stands: the maker of the stored result, or the node whose moments are taken.
        kind: "join", "moments" (mean and variance) or "mean".
        source: the value that is made tile by tile: the result, or what is reduced.
        nodes: in graph order; empty where a stored value is reduced.
    """

    node: ir.Node
    kind: str
    source: ir.Value
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class TilePlan:
    """Regions in graph order with their tiles per spatial axis; estimated peak bytes and seconds of the whole graph."""

    regions: tuple[tuple[Region, tuple[int, ...]], ...]
    peak_bytes: int
    seconds: float
    fits: bool


@dataclass(frozen=True)
class Segment:
    """One tile along one axis: rows of each value (whole hull of what is read), of each node's result, of each edge."""

    rows: dict[ir.Value, Range] = field(default_factory=dict)
    made: dict[ir.Node, Range] = field(default_factory=dict)
    edges: dict[tuple[ir.Node, int], Range] = field(default_factory=dict)


def segments_of(region: Region, axis: int, count: int) -> tuple[Segment, ...]:
    """The tiles along that axis, for `count` equal parts of the region's source."""
    whole = static_shape(region.source)[axis + 2]
    found = []
    for index in range(count):
        rows = {region.source: (whole * index // count, whole * (index + 1) // count)}
        made: dict[ir.Node, Range] = {}
        edges: dict[tuple[ir.Node, int], Range] = {}
        for node in reversed(region.nodes):
            need = ranges_of(node, axis, *rows[node.outputs[0]])
            made[node] = need.made
            for position, (lo, hi) in need.inputs.items():
                value = node.inputs[position]
                assert value is not None
                edges[node, position] = (lo, hi)
                before = rows.get(value, (lo, hi))
                rows[value] = (min(lo, before[0]), max(hi, before[1]))
        found.append(Segment(rows, made, edges))
    return tuple(found)


class Tiler:
    """Plans over one graph, whose shapes are static; keeps what it has computed about regions."""

    def __init__(self, model: ir.Model, price: Price) -> None:
        self.nodes = list(model.graph)
        self.price = price
        self._outputs = {root_of(value) for value in model.graph.outputs}
        self._inputs = [value for value in model.graph.inputs if not is_weight(value)]
        self.cut_at: dict[ir.Node, tuple[int, ...]] = {}
        for node in self.nodes:
            try:
                self.cut_at[node] = tiled_inputs(node)
            except NoMatch:
                continue
        self.optional = tuple(v for node in self.nodes for v in node.outputs[:1] if self._may_be_virtual(v))
        self._row_bytes: dict[ir.Value, float] = {}
        self._grids: dict[object, list[tuple[float, int, tuple[int, ...]]]] = {}
        self._seconds = {node: price.node_seconds(node) for node in self.nodes}

    def _may_be_virtual(self, value: ir.Value) -> bool:
        if value.producer() not in self.cut_at or value.is_graph_output() or not value.uses():
            return False
        if math.prod(static_shape(value)[2:]) < 2:
            return False
        for node, position in value.uses():
            if position not in self.cut_at.get(node, ()) and not (node.op_type == "GlobalAveragePool" and not position):
                return False
        return True

    def regions(self, virtual: Collection[ir.Value]) -> Iterator[tuple[ir.Node, list[Region], bool]]:
        """Each node that leaves something stored or reduced: its regions, and whether it also runs as it is."""
        for node in self.nodes:
            found: list[Region] = []
            reads_virtual = any(value in virtual for value in node.inputs)
            is_virtual = node.outputs[0] in virtual if node.outputs else False
            if node.op_type == "InstanceNormalization" and (reads_virtual or is_virtual):
                assert node.inputs[0] is not None
                found.append(self._region(node, "moments", node.inputs[0], virtual))
            if node.op_type == "GlobalAveragePool" and reads_virtual:
                assert node.inputs[0] is not None
                found.append(self._region(node, "mean", node.inputs[0], virtual))
            elif reads_virtual and not is_virtual:
                found.append(self._region(node, "join", node.outputs[0], virtual))
            if found or not is_virtual:
                yield node, found, not found
            # A norm whose result is virtual has been reduced and is computed again in every region that reads it.

    def _region(self, node: ir.Node, kind: str, source: ir.Value, virtual: Collection[ir.Value]) -> Region:
        wanted: set[ir.Node] = set()
        todo = [source] if kind == "join" or source in virtual else []
        while todo:
            maker = todo.pop().producer()
            assert maker is not None
            if maker not in wanted:
                wanted.add(maker)
                inputs = (maker.inputs[position] for position in self.cut_at[maker])
                todo += [value for value in inputs if value is not None and value in virtual]
        return Region(node, kind, source, tuple(n for n in self.nodes if n in wanted))

    def plan(self, virtual: Collection[ir.Value], budget: int) -> TilePlan:
        """The cheapest tiles that keep every region within `budget` bytes, or the smallest where none does."""
        steps = list(self.regions(virtual))
        last: dict[ir.Value, int] = {value: len(steps) for value in self._outputs}
        reads: list[set[ir.Value]] = []
        for index, (node, regions, runs) in enumerate(steps):
            values = {v for region in regions for v in self._cuts(region, virtual)}
            values |= {v for v in node.inputs if v is not None} if runs else set()
            reads.append({root_of(v) for v in values if v not in virtual and not is_weight(root_of(v))})
            for value in reads[-1]:
                last[value] = max(last.get(value, 0), index)
        alive = {value: size_of(value) for value in self._inputs}
        chosen: list[tuple[Region, tuple[int, ...]]] = []
        peak, seconds = 0, 0.0
        for index, (node, regions, runs) in enumerate(steps):
            made = [v for v in node.outputs if v.name and v not in virtual and not (runs and shares_input(node))]
            if regions and regions[-1].kind == "moments":
                made = []
            held = sum(alive.values())
            if runs:
                held += sum(size_of(v) for v in made)
                seconds += self._seconds[node]
                peak = max(peak, held)
            for region in regions:
                cost, inside, grid = self._choose(region, virtual, budget - held)
                chosen.append((region, grid))
                peak, seconds = max(peak, held + inside), seconds + cost
            alive |= {root_of(v): size_of(v) for v in made}
            for value in [v for v in alive if last.get(v, -1) <= index]:
                del alive[value]
        return TilePlan(tuple(chosen), peak, seconds, peak <= budget)

    def _cuts(self, region: Region, virtual: Collection[ir.Value]) -> set[ir.Value]:
        inside = {node.outputs[0] for node in region.nodes}
        read = {v for node in region.nodes for v in node.inputs if v is not None and v not in inside}
        return read | ({region.source} - inside)

    def _choose(self, region: Region, virtual: Collection[ir.Value], room: int) -> tuple[float, int, tuple[int, ...]]:
        key = (region.node, region.kind, region.nodes)
        if key not in self._grids:
            self._grids[key] = self._price_grids(region)
        grids = self._grids[key]
        return next((grid for grid in grids if grid[1] <= room), None) or min(grids, key=lambda grid: grid[1::-1])

    def _price_grids(self, region: Region) -> list[tuple[float, int, tuple[int, ...]]]:
        """(seconds, most bytes inside, tiles per axis) of every grid, cheapest first."""
        shape = static_shape(region.source)[2:]
        cut: list[dict[int, _AxisSums]] = []
        for axis, rows in enumerate(shape):
            counts = [count for count in _COUNTS if count == 1 or rows // count >= _LEAST_ROWS]
            cut.append({count: _AxisSums(segments_of(region, axis, count)) for count in counts})
        priced = [
            (*self._price_grid(region, [sums[count] for sums, count in zip(cut, grid)], math.prod(grid)), grid)
            for grid in product(*cut) if math.prod(grid) <= MAX_TILES and _is_longest_first(shape, grid)
        ]  # fmt: skip
        return sorted(priced)

    def _price_grid(self, region: Region, axes: list[_AxisSums], tiles: int) -> tuple[float, int]:
        price, seconds = self.price, 0.0
        sizes: dict[ir.Value, int] = {}
        last: dict[ir.Value, int] = {}
        for index, node in enumerate(region.nodes):
            last |= {node.inputs[position]: index for position in self.cut_at[node]}  # type: ignore[misc]
        alive, most = 0, 0
        for index, node in enumerate(region.nodes):
            out = node.outputs[0]
            share = math.prod(a.made_sum[node] for a in axes) / math.prod(static_shape(out)[2:])
            seconds += (self._seconds[node] - price.start_seconds) * share + price.start_seconds * tiles
            crops = 0
            for position in self.cut_at[node]:
                value = node.inputs[position]
                assert value is not None
                if value not in sizes:  # a slice of a stored value
                    is_cut = self._is_cut(value, axes)
                    sizes[value] = self._bytes(value, [a.rows_max[value] for a in axes]) if is_cut else 0
                    alive += sizes[value]
                    moved = self._bytes(value, [a.rows_sum[value] for a in axes]) if sizes[value] else 0
                    seconds += 2 * moved * price.byte_seconds + (price.start_seconds * tiles if moved else 0)
                if any((node, position) in a.cropped for a in axes):
                    rows = [a.edges_max[node, position] for a in axes]
                    crops += self._bytes(value, rows)
                    seconds += 2 * tiles * self._bytes(value, rows) * price.byte_seconds + price.start_seconds * tiles
            sizes[out] = self._bytes(out, [a.made_max[node] for a in axes])
            if shares_input(node):
                alive -= sizes.pop(node.inputs[0])  # type: ignore[arg-type]
            alive += sizes[out]
            most = max(most, alive + crops)
            for value in [v for v in sizes if last.get(v, len(region.nodes)) <= index]:
                alive -= sizes.pop(value)
        whole = size_of(region.source)
        if region.kind == "join":
            join = 2 * whole * price.byte_seconds + price.start_seconds if tiles > 1 else 0.0
            inside = max(most - sizes.get(region.source, 0) + whole, 2 * whole) if tiles > 1 else most
            return seconds + join, inside
        tile = self._bytes(region.source, [a.rows_max[region.source] for a in axes])
        if not region.nodes and tiles > 1:
            seconds += 2 * whole * price.byte_seconds + price.start_seconds * tiles
        passes = 4 if region.kind == "moments" else 1
        seconds += tiles * passes * price.start_seconds + passes * 1.5 * whole * price.byte_seconds
        return seconds, max(most, (3 if region.kind == "moments" else 1) * tile)

    def _bytes(self, value: ir.Value, rows: list[int]) -> int:
        if value not in self._row_bytes:
            assert value.dtype is not None
            self._row_bytes[value] = math.prod(static_shape(value)[:2]) * value.dtype.itemsize
        return math.ceil(self._row_bytes[value] * math.prod(rows))

    @staticmethod
    def _is_cut(value: ir.Value, axes: list[_AxisSums]) -> bool:
        return any(a.rows_min[value] < size for a, size in zip(axes, static_shape(value)[2:]))


def _is_longest_first(shape: tuple[int, ...], grid: tuple[int, ...]) -> bool:
    """Whether longer axes have at least as many parts, and outer ones among equals, whose slices lie together."""
    order = sorted(range(len(shape)), key=lambda axis: -shape[axis])
    return all(grid[a] >= grid[b] for a, b in zip(order, order[1:]))


class _AxisSums:
    """Largest and summed lengths over the tiles of one axis."""

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        def gather(parts: list[dict], how: Callable[[list[int]], int]) -> dict:
            return {key: how([part[key][1] - part[key][0] for part in parts]) for key in parts[0]}

        rows, made, edges = [s.rows for s in segments], [s.made for s in segments], [s.edges for s in segments]
        self.rows_max, self.rows_min, self.rows_sum = (gather(rows, how) for how in (max, min, sum))
        self.made_max, self.made_sum = gather(made, max), gather(made, sum)
        self.edges_max = gather(edges, max)
        maker = {node.outputs[0]: node for node in segments[0].made}

        def have(segment: Segment, value: ir.Value) -> Range:
            return segment.made[maker[value]] if value in maker else segment.rows[value]

        self.cropped = {
            edge for segment in segments for edge, wanted in segment.edges.items()
            if wanted != have(segment, edge[0].inputs[edge[1]])  # type: ignore[arg-type]
        }  # fmt: skip

