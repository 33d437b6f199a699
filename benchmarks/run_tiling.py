"""`python -m benchmarks.run_tiling`: what a memory budget saves, by plan and by the resident memory of the engine.

For each network and budget: the planned peak of activations before and after, the extra operations, the largest
difference of the outputs (OpenVINO, both graphs), and what a process that runs the OpenVINO engine holds above its
base, before and after. "kept" is the measured fall over the planned fall: 1 means that the engine gave back exactly
what the plan promised. Writes benchmarks/results/tiling.json and .md.

    --plan-only        no engine, all networks, at full size
    --only NAME,...    these networks
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import onnx_ir as ir

from benchmarks.measure_resident import Resident, in_temporary_folder
from benchmarks.networks.graph import fill_weights
from benchmarks.networks.segment import mobilenet_v2, unet3d
from benchmarks.report import Machine, describe_machine, format_table, write_results
from hwc.compile import resolve_target
from hwc.cost.count_flops import count_flops
from hwc.errors import TargetError
from hwc.reduce.live_bytes import peak_bytes
from hwc.reduce.lower_peak import Lowered, lower_peak
from hwc.reduce.price_nodes import price_on
from hwc.store import Store

_MIB = 2**20
OUT = Path(__file__).parent / "results" / "tiling.json"


@dataclass(frozen=True)
class Case:
    """A network, its budgets as shares of its peak, and whether its engine is run."""

    name: str
    build: Callable[[], ir.Model]
    shares: tuple[float, ...]
    is_run: bool = True


@dataclass(frozen=True)
class Row:
    """One budget of one network. Bytes, seconds; None where no engine ran."""

    network: str
    share: float
    peak_before: int
    peak_after: int
    flops_before: int
    flops_after: int
    estimated_ratio: float
    nodes: int
    steps: tuple[str, ...]
    plan_seconds: float
    refusal: str = ""
    resident_before: int | None = None
    resident_after: int | None = None
    seconds_before: float | None = None
    seconds_after: float | None = None
    is_reset: bool = False


def linknet3d(side: int) -> ir.Model:
    """LinkNet3D of the suite with its trained weights, exported at that size.

    Its peak is where 2 x S^3 logits become 2 x S^3 probabilities, the output: tiles of those are joined, and a join
    that is not in place holds tiles and result, so no plan goes below twice the output.
    """
    from benchmarks.models.linknet3d import model
    from hwc.graph.model import name_everything
    from hwc.graph.shapes import infer_shapes

    return _export(model(), (1, 1, side, side, side), name_everything, infer_shapes)


def _export(module: object, shape: tuple[int, ...], *prepare: Callable[[ir.Model], None]) -> ir.Model:
    import onnx_ir.passes.common as common
    import torch

    assert isinstance(module, torch.nn.Module)
    program = torch.onnx.export(module.eval(), (torch.zeros(shape),), dynamo=True, verbose=False)
    assert program is not None
    found = program.model
    common.LiftConstantsToInitializersPass(lift_all_constants=True)(found)
    for step in prepare:
        step(found)
    return found


CASES = (
    Case("3-D U-Net 1x128x144x144", lambda: unet3d((1, 128, 144, 144)), (0.43, 0.2, 0.1), is_run=False),
    Case("3-D U-Net 1x48x64x64, half as wide", lambda: _filled(unet3d((1, 48, 64, 64), width=16)), (0.43, 0.2, 0.1)),
    Case("MobileNet-v2 3x224x224", lambda: _filled(mobilenet_v2((3, 224, 224))), (0.5, 0.25)),
    Case("LinkNet3D 1x256x256x256", lambda: linknet3d(256), (0.8,), is_run=False),
)  # fmt: skip


def _filled(model: ir.Model) -> ir.Model:
    fill_weights(model)
    return model


def run_case(case: Case, store: Store, *, is_run: bool, runs: int, tell: Callable[[str], None]) -> list[Row]:
    """One row a budget."""
    model = case.build()
    price = price_on(resolve_target("cpu", store), "graph")
    before, flops = peak_bytes(model), _flops(model)
    rows, first = [], None
    for share in case.shares:
        tell(f"{case.name}: planning for {share:.0%}")
        start = time.perf_counter()
        try:
            lowered, refusal = lower_peak(model, int(before * share), price)[0], ""
        except TargetError as error:
            lowered, refusal = Lowered(model, before, 1.0, 1.0, before, ()), f"{error.got}"
        taken = time.perf_counter() - start
        found: tuple[Resident | None, Resident | None] = (None, None)
        if is_run and case.is_run and not refusal:
            tell(f"{case.name}: running both engines")
            first = first or in_temporary_folder(model, runs=runs)
            found = (first, in_temporary_folder(lowered.model, runs=runs))
        a, b = found
        rows.append(Row(
            case.name, share, before, lowered.peak_bytes, flops, _flops(lowered.model),
            lowered.seconds / lowered.seconds_before, lowered.model.graph.num_nodes(), lowered.steps, taken, refusal,
            a and a.peak_bytes, b and b.peak_bytes, a and median(a.seconds), b and median(b.seconds),
            bool(a and a.is_reset),
        ))  # fmt: skip
        gc.collect()
    return rows


def _flops(model: ir.Model) -> int:
    return sum(count_flops(node) for node in model.graph)


def format_text(rows: Sequence[Row], machine: Machine) -> str:
    """The report in markdown."""
    head = ("network", "budget", "planned peak, MiB", "fall", "extra operations", "estimated time", "nodes",
            "resident above base, MiB", "kept", "latency")  # fmt: skip
    lines = []
    for row in rows:
        if row.refusal:
            lines.append((row.network, f"{row.share:.0%}", f"{row.peak_before / _MIB:.1f}", "refused", row.refusal))
            continue
        fall = row.peak_before - row.peak_after
        measured = ["not run"] * 3
        if row.resident_before is not None and row.resident_after is not None:
            assert row.seconds_before is not None and row.seconds_after is not None
            measured = [
                f"{row.resident_before / _MIB:.1f} to {row.resident_after / _MIB:.1f}",
                f"{(row.resident_before - row.resident_after) / fall:.2f}" if fall else "-",
                f"{row.seconds_after / row.seconds_before:.2f}x of {row.seconds_before:.3f} s",
            ]
        lines.append((
            row.network, f"{row.share:.0%}", f"{row.peak_before / _MIB:.1f} to {row.peak_after / _MIB:.1f}",
            f"{fall / row.peak_before:.1%}", f"{row.flops_after / row.flops_before - 1:+.1%}",
            f"{row.estimated_ratio:.2f}x", str(row.nodes), *measured,
        ))  # fmt: skip
    padded = [(*line, *[""] * (len(head) - len(line))) for line in lines]
    told = "\n".join(f"- {name}: {text}" for name, text in machine.items())
    steps = "\n".join(
        f"- {row.network} at {row.share:.0%} (planned in {row.plan_seconds:.1f} s): {'; '.join(row.steps)}"
        for row in rows if row.steps
    )  # fmt: skip
    return (
        "# Memory budgets: what tiling saves and costs\n\nThe peak is the most bytes of activations alive at once, "
        "each tensor from its maker to its last reader, activations (Relu, Clip) in place. Resident memory is what a "
        "process that runs the OpenVINO engine holds above what it held before its first run; \"kept\" is its fall "
        "over the planned fall. A budget that is refused says the least that was found to fit. "
        f"Latency is the median of few runs on a shared machine.\n\n{format_table(head, padded)}\n"
        f"## What was done\n\n{steps}\n\n## Machine\n\n{told}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comma-separated beginnings of network names")
    parser.add_argument("--plan-only", action="store_true", help="run no engine")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    names = tuple(options.only.split(","))
    store = Store(Path(".cache") / "steps")
    rows: list[Row] = []
    machine = describe_machine("python -m benchmarks.run_tiling")
    for case in CASES:
        if case.name.startswith(names):
            rows += run_case(case, store, is_run=not options.plan_only, runs=options.runs,
                             tell=lambda what: print(what, file=sys.stderr, flush=True))  # fmt: skip
            write_results(options.out, rows, machine, format_text)  # each case is kept, should a later one fail
    print(format_text(rows, machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
