"""HOST half: the memory plan of a bundle, from its graph, beside what its engine reports.

Lifetimes are those of the fusion groups in the manifest, since a group is expected to become one kernel; where these
do not cover the graph as it was written (its Q/DQ nodes came later), the graph is planned node by node with each Q/DQ
pair as integers, and a note says so. The plan is a plan: which memory an engine really uses is in its own report
(`Engine.activation_bytes`), and where the runtime reports none, nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwc.artifacts import Bundle
from hwc.artifacts_memory import MemoryPlan
from hwc.bundle import read_bundle, verify_bundle
from hwc.errors import UsageError
from hwc.memory.check import check_plan
from hwc.memory.draw import format_bytes
from hwc.memory.lifetimes import peak_tick
from hwc.memory.planners import plan

MODEL = "model.onnx"


@dataclass(frozen=True)
class BundlePlan:
    """The plan of a bundle's activations.

    Args:
        sum_bytes: what all tensors would take, each in memory of its own.
        ticks: the node or group that runs at each tick.
        peak: the tick with most bytes alive.
        reuse: the rule by which tensors share storage.
    """

    bundle: Bundle
    plan: MemoryPlan
    sum_bytes: int
    ticks: tuple[str, ...]
    peak: int
    reuse: str
    notes: tuple[str, ...]


def plan_bundle(
    folder: Path, *, sizes: str = "max", reuse: str = "best", seconds: float = 10.0, capacity: int | None = None
) -> BundlePlan:
    """Plans the graph of the bundle.

    Args:
        sizes: "min", "opt" or "max" of dynamic dimensions.
        reuse: see hwc/schedule/lifetimes.py.
        seconds: most time of the search, where the greedy family does not reach the bound.

    Raises:
        UsageError: no bundle, a changed one, or a size that is not known before the model runs.
        InternalError: the plan is wrong.
    """
    import onnx_ir as ir

    from hwc.graph.model import name_everything
    from hwc.graph.shapes import infer_shapes
    from hwc.schedule.lifetimes import find_lifetimes

    bundle = read_bundle(folder)
    verify_bundle(folder, bundle)
    if not (folder / MODEL).is_file():
        raise UsageError(f"{folder} holds no {MODEL}", do="give a folder that `hwc compile -o` wrote")
    model = ir.load(folder / MODEL)
    name_everything(model)
    infer_shapes(model, "in the bundle's graph")
    nodes = {node.name for node in model.graph}
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph)
    grouped = [name for group in bundle.groups for name in group.nodes]
    groups = bundle.groups if len(grouped) == len(set(grouped)) == len(nodes) and set(grouped) == nodes else ()
    notes = []
    if not groups:
        notes.append("the manifest's fusion groups do not cover the graph, so it was planned node by node")
    if quantized:
        notes.append("each Q/DQ pair is taken as integers, as in an engine that fuses it with its neighbours")
    found = find_lifetimes(
        model, sizes=sizes, inputs=bundle.inputs, groups=groups, reuse=reuse, quantized=quantized
    )
    made = plan(found.buffers, capacity, seconds)
    check_plan(made)
    return BundlePlan(
        bundle, made, sum(buffer.size_bytes for buffer in found.buffers), found.ticks, peak_tick(found.buffers),
        found.reuse, tuple(notes),
    )  # fmt: skip


def describe_plan(made: MemoryPlan) -> list[str]:
    """Size, bound and gap of a plan, and how it stands to its capacity."""
    gap = made.height_bytes - made.bound_bytes
    lines = [
        f"plan      {format_bytes(made.height_bytes)} for {len(made.buffers)} buffers, ratio {made.ratio:.4f}: "
        f"{made.method}" + (f", {made.nodes} nodes" if made.nodes else ""),
        f"bound     {format_bytes(made.bound_bytes)}, proved; "
        + ("no plan is smaller" if not gap else f"gap {format_bytes(gap)}"),
    ]
    for lane in made.lanes if len(made.lanes) > 1 else ():
        lines.append(f"lane      {lane.name or '(none)'}: {format_bytes(lane.height_bytes)} from {lane.base_bytes}")
    if made.capacity_bytes is not None:
        verdict = "fits"
        if made.is_impossible:
            verdict = "cannot be met, proved: the bound is higher"
        elif not made.fits:
            verdict = "was not met in the time given; the bound does not forbid it"
        lines.append(f"capacity  {format_bytes(made.capacity_bytes)} {verdict}")
    return lines


def describe_bundle(made: BundlePlan) -> list[str]:
    """The plan of a bundle beside what its engine says."""
    engine = made.bundle.engine
    lines = describe_plan(made.plan)
    lines.append(f"apart     {format_bytes(made.sum_bytes)} if no two buffers shared memory")
    lines.append(f"peak      at tick {made.peak}, {made.ticks[made.peak] if made.ticks else 'no node'}")
    lines.append(f"reuse     {made.reuse}")
    if engine.activation_bytes is None:
        lines.append(f"engine    {engine.key.runtime} ({engine.state}) does not report its activation memory")
    else:
        lines.append(f"engine    {engine.key.runtime} ({engine.state}) reports {format_bytes(engine.activation_bytes)}")
    return lines + [f"note      {note}" for note in made.notes]
