"""Plans a network for one DLA core: judges layers, puts a price on both sides, chooses the cut, names the loadables.

Three objectives:

* "latency": the least estimated time of one inference, GPU and DLA one after the other
* "offload": the least estimated time that the GPU is busy, reformats included; of equal plans the one that is faster on
  DLA. This is for a GPU that has other work: DLA is slower, but it is another engine.
* "all": every layer that may run there, whatever it costs; the limit of loadables is not looked at

Limit: all times are estimates; whether a layer really runs on DLA is TensorRT's word on the board (canRunOnDLA).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hwc.artifacts import QuantTable, Target
from hwc.artifacts_dla import SCHEMA, DlaLoadable, DlaPlan
from hwc.dla.board import Board, open_board
from hwc.dla.choose_cut import choose_cut
from hwc.dla.cut_problem import OUTSIDE, CutProblem, Labels, Transfer, cost_of, crossings
from hwc.dla.estimate_times import (
    estimate_crossing_seconds,
    estimate_dla_seconds,
    estimate_gpu_seconds,
    estimate_reformat_seconds,
)
from hwc.dla.form_units import Unit, form_units
from hwc.dla.judge_layers import Verdict, judge_layers
from hwc.dla.partition import find_loadables
from hwc.dla.tensors import batch_of, used_outputs
from hwc.errors import UsageError
from hwc.graph.model import constant_array
from hwc.graph.text import digest_model

OBJECTIVES = ("latency", "offload", "all")
_PICOSECONDS = 1e12
_DLA_WEIGHT = 1e-3  # of DLA time under "offload": small enough to break ties alone


@dataclass(frozen=True)
class DlaReport:
    """The plan, and all that led to it.

    Args:
        all_legal: number of loadables and of transitions with every legal layer on DLA.
        saved_ms: layer -> what its unit would cost more on DLA than on the GPU, for legal layers on the GPU.
    """

    plan: DlaPlan
    verdicts: tuple[Verdict, ...]
    board: Board
    all_legal: tuple[int, int]
    saved_ms: dict[str, float]


def plan_dla(
    model: ir.Model, target: Target, precision: str, *, tensorrt: str = "", table: QuantTable | None = None,
    objective: str = "latency", core: int = 0,
) -> DlaPlan:
    """The plan for one DLA core; arguments and errors as `explain_dla`."""
    return explain_dla(
        model, target, precision, tensorrt=tensorrt, table=table, objective=objective, core=core
    ).plan


def explain_dla(
    model: ir.Model, target: Target, precision: str, *, tensorrt: str = "", table: QuantTable | None = None,
    objective: str = "latency", core: int = 0,
) -> DlaReport:
    """The plan with the verdict about each layer.

    Args:
        model: a graph with names and shapes; it is not changed.
        precision: "fp16" or "int8".
        tensorrt: the version on the board; "" for the one that the target states.
        table: scales, to judge the INT8 rules by.
        core: the DLA core that the plan is for.

    Raises:
        TargetError: the board has no DLA, or this TensorRT does not drive it.
        UsageError: no such precision, objective or core.
    """
    if objective not in OBJECTIVES:
        raise UsageError("no such objective", expected=", ".join(OBJECTIVES), got=objective)
    board = open_board(target, precision, tensorrt=tensorrt, table=table)
    if not 0 <= core < board.number("dla.count"):
        raise UsageError(
            f"{target.name} has no DLA core {core}", expected=f"0 to {board.number('dla.count') - 1:.0f}", got=str(core)
        )
    verdicts = judge_layers(model, board)
    legal = {verdict.node: verdict.is_legal for verdict in verdicts}
    units = form_units([node for node in model.graph if str(node.name) in legal], legal)
    time = _pose(units, board, _latency_prices)
    problem = _pose(units, board, _offload_prices) if objective == "offload" else time
    everywhere = tuple(unit.is_legal for unit in units)
    labels = everywhere if objective == "all" else choose_cut(problem, board.loadable_limit)
    loadables = find_loadables(time, labels)
    plan = DlaPlan(
        schema=SCHEMA, target=target.name, generation=board.generation, tensorrt=board.tensorrt, precision=precision,
        objective=objective, core=core, model_digest=digest_model(model),
        loadables=tuple(_describe(f"dla{i}", [units[u] for u in part]) for i, part in enumerate(loadables)),
        loadable_limit=board.loadable_limit,
        gpu_layers=tuple(str(n.name) for unit, on in zip(units, labels) if not on for n in unit.nodes),
        transitions=_count_crossings(time, labels),
        estimate_gpu_ms=_milliseconds(cost_of(time, (False,) * len(units))),
        estimate_dla_ms=_milliseconds(cost_of(time, everywhere)),
        estimate_planned_ms=_milliseconds(cost_of(time, labels)),
        notes=_notes(verdicts, units, board),
    )
    all_legal = len(find_loadables(time, everywhere)), _count_crossings(time, everywhere)
    return DlaReport(plan, verdicts, board, all_legal, _losses(units, time, labels))


# The price of a unit on the GPU and on DLA, and of a tensor's ways in and out, in seconds.
_Prices = tuple[Callable[[Unit, Board], tuple[float, float]], Callable[[ir.Value, Board], tuple[float, float]]]


def _latency_unit(unit: Unit, board: Board) -> tuple[float, float]:
    gpu = estimate_gpu_seconds(unit.nodes, board) or 0.0
    return gpu, estimate_dla_seconds(unit.nodes, board) if unit.is_legal else 0.0


def _offload_unit(unit: Unit, board: Board) -> tuple[float, float]:
    gpu, dla = _latency_unit(unit, board)
    return gpu, _DLA_WEIGHT * dla


def _offload_tensor(value: ir.Value, board: Board) -> tuple[float, float]:
    kernel = estimate_reformat_seconds(value, board)
    return kernel, kernel


_latency_prices: _Prices = (_latency_unit, estimate_crossing_seconds)
_offload_prices: _Prices = (_offload_unit, _offload_tensor)


def _pose(units: Sequence[Unit], board: Board, prices: _Prices) -> CutProblem:
    """The cut as numbers: who makes and who reads each tensor, and what everything costs."""
    price_unit, price_tensor = prices
    nodes = [node for unit in units for node in unit.nodes]
    # What a body (If, Loop) captures is read by the unit of the node that runs it.
    owner = {inner: index for index, unit in enumerate(units) for node in unit.nodes for inner in _with_bodies(node)}
    costs = [price_unit(unit, board) for unit in units]
    transfers = []
    values = [value for node in nodes for value in (*node.inputs, *used_outputs(node)) if value is not None]
    for value in dict.fromkeys(values):
        if constant_array(value) is not None:
            continue  # weights belong to who reads them
        maker = value.producer()
        producer = owner.get(maker, OUTSIDE) if maker is not None else OUTSIDE
        readers = sorted({owner[use.node] for use in value.uses() if use.node in owner} - {producer})
        goes_out = value.is_graph_output()
        if readers or goes_out:
            into, back = price_tensor(value, board)
            transfers.append(
                Transfer(str(value.name), producer, tuple(readers), goes_out, _whole(into), _whole(back))
            )
    return CutProblem(
        gpu=tuple(_whole(gpu) for gpu, _ in costs),
        dla=tuple(_whole(dla) if unit.is_legal else None for unit, (_, dla) in zip(units, costs)),
        transfers=tuple(transfers),
        batch=tuple(batch_of(unit.nodes[-1].outputs[0]) for unit in units),
    )


def _with_bodies(node: ir.Node) -> list[ir.Node]:
    nodes = [node]
    for attr in node.attributes.values():
        graphs = [attr.as_graph()] if attr.type == ir.AttributeType.GRAPH else []
        nodes += [inner for graph in graphs for inner in ir.traversal.RecursiveGraphIterator(graph)]
    return nodes


def _describe(name: str, units: Sequence[Unit]) -> DlaLoadable:
    nodes = [node for unit in units for node in unit.nodes]
    inside = set(nodes)
    inputs = [v for n in nodes for v in n.inputs if v is not None and constant_array(v) is None
              and v.producer() not in inside]
    outputs = [v for n in nodes for v in n.outputs
               if v.is_graph_output() or any(use.node not in inside for use in v.uses())]
    return DlaLoadable(
        name, tuple(str(node.name) for node in nodes), tuple(dict.fromkeys(str(v.name) for v in inputs)),
        tuple(dict.fromkeys(str(v.name) for v in outputs)),
    )


def _count_crossings(problem: CutProblem, labels: Labels) -> int:
    inward, outward = crossings(problem, labels)
    return len(inward) + len(outward)


def _losses(units: Sequence[Unit], problem: CutProblem, labels: Labels) -> dict[str, float]:
    losses = {}
    for index, unit in enumerate(units):
        price = problem.dla[index]
        if price is not None and not labels[index]:
            losses.update({str(node.name): _milliseconds(price - problem.gpu[index]) for node in unit.nodes})
    return losses


def _notes(verdicts: Sequence[Verdict], units: Sequence[Unit], board: Board) -> tuple[str, ...]:
    notes = ["times are estimates, and a layer that may run on DLA is likely to: only the board's TensorRT can tell"]
    unsure = [v.node for v in verdicts if v.is_legal and any(f.kind == "unsure" for f in v.findings)]
    if unsure:
        notes.append(f"no source says whether DLA takes {len(unsure)} of the layers, such as '{unsure[0]}'")
    if board.is_int8 and board.table is None:
        notes.append("no scales were given, so the INT8 rules of equal scales are conditions")
    silent = [u for u in units if estimate_gpu_seconds(u.nodes, board) is None]
    if silent:
        notes.append(f"{len(silent)} layers have no estimate and count as 0, such as '{silent[0].nodes[0].name}'")
    return tuple(notes)


def _whole(seconds: float) -> int:
    return round(seconds * _PICOSECONDS)


def _milliseconds(picoseconds: int) -> float:
    return picoseconds / _PICOSECONDS * 1e3
