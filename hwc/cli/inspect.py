"""`hwc inspect DIR|MODEL`: what an engine consists of, or what a graph is and what the passes would do to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from hwc.cli import options
from hwc.cli.command import Command
from hwc.cli.optimize import describe_steps


@click.command(cls=Command)
@click.argument("what", metavar="DIR|MODEL")
@click.option("--passes", "show_passes", is_flag=True, help="What each pass did, with near misses and reasons.")
@click.option("--groups", "show_groups", is_flag=True, help="Fusion groups with their estimated cost.")
@click.option("--layers", "show_layers", is_flag=True, help="Every kernel and the nodes it came from.")
@click.option("--dla", "show_dla", is_flag=True, help="Which layers run on a DLA core of the target, and why not.")
@click.option("--precision", type=click.Choice(["fp16", "int8"]), default="fp16", show_default=True,
              help="With --dla: what the DLA computes in.")
@click.option("--dla-objective", type=click.Choice(["latency", "offload"]), default="latency", show_default=True,
              help="With --dla: the fastest inference, or the least work for the GPU.")
@click.option("--dla-rewrites/--no-dla-rewrites", default=True, show_default=True,
              help="With --dla: apply the exact rewrites that keep layers on DLA first.")
@click.option("--tensorrt", default="", metavar="VERSION", help="With --dla: the TensorRT on the board.")
@options.TARGET
@options.shapes
@options.cache
@options.FORMAT
def inspect(
    what: str, show_passes: bool, show_groups: bool, show_layers: bool, show_dla: bool, precision: str,
    dla_objective: str, dla_rewrites: bool, tensorrt: str, target: str, input_shapes: tuple[str, ...],
    min_shapes: tuple[str, ...], opt_shapes: tuple[str, ...], max_shapes: tuple[str, ...], cache_dir: Path,
    no_cache: bool, output_format: str,
) -> None:  # fmt: skip
    """Show what was built (a bundle), or what a model is and would become (a MODEL)."""
    if show_dla:
        shapes = options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes)
        chosen_dla = (precision, dla_objective, tensorrt, dla_rewrites)
        _inspect_dla(what, target, chosen_dla, shapes, (cache_dir, no_cache), output_format)
        return
    if (Path(what) / "manifest.json").is_file():
        _inspect_bundle(Path(what), show_passes, show_groups, show_layers, output_format)
        return
    from hwc.capture import MODEL, capture_model
    from hwc.compile import resolve_target
    from hwc.optimize import OptimizeOptions, optimize_model

    shapes = options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes)
    with options.open_store(cache_dir, no_cache) as store, options.progress_bar("inspect") as progress:
        hardware = resolve_target(target, store)
        captured, _ = capture_model(what, shapes, store=store)
        chosen = OptimizeOptions("fp32", hardware.engine)
        optimized, _ = optimize_model(captured, hardware, chosen, store=store, progress=progress)
        before, after = _count_ops(captured.folder / MODEL), _count_ops(optimized.folder / MODEL)
        costs = _group_costs(optimized.folder / MODEL, optimized.groups, hardware, "fp32") if show_groups else []
    if output_format == "json":
        content = {
            "before": before,
            "after": after,
            "steps": [dataclasses.asdict(s) for s in optimized.steps],
            "groups": costs,
        }
        click.echo(json.dumps(content, indent=1))
        return
    click.echo(f"graph     {sum(before.values())} nodes: {_join(before)}")
    click.echo(f"passes    {sum(after.values())} nodes for {hardware.name}: {_join(after)}")
    for note in captured.notes:
        click.echo(f"note      {note}")
    _print_parts(optimized.steps if show_passes else (), costs)


def _inspect_dla(
    what: str, target: str, chosen: tuple[str, str, str, bool], shapes: Any, cache: tuple[Path, bool],
    output_format: str,
) -> None:  # fmt: skip
    from hwc.capture import capture_model
    from hwc.compile import resolve_target
    from hwc.dla.report import format_report, report_data
    from hwc.errors import UsageError
    from hwc.inspect_dla import DlaOptions, inspect_dla

    if (Path(what) / "manifest.json").is_file():
        raise UsageError("--dla plans a model, not a bundle", got=what, do="name the MODEL that the bundle was made of")
    with options.open_store(*cache) as store, options.progress_bar("inspect") as progress:
        hardware = resolve_target(target, store)
        captured, _ = capture_model(what, shapes, store=store)
        found = inspect_dla(captured, hardware, DlaOptions(*chosen), store=store, progress=progress)
    done = [step for step in found.steps if step.rewrites]
    if output_format == "json":
        steps = [dataclasses.asdict(step) for step in done]
        click.echo(json.dumps({**report_data(found.report), "rewrites": steps}, indent=1))
        return
    for step in done:
        click.echo(f"rewrite     {step.name} {step.rewrites}")
    for line in format_report(found.report):
        click.echo(line)


def _inspect_bundle(folder: Path, passes: bool, groups: bool, layers: bool, output_format: str) -> None:
    from hwc.bundle import read_bundle, verify_bundle
    from hwc.cli.compile import describe
    from hwc.engines.inspect import format_table

    bundle = read_bundle(folder)
    verify_bundle(folder, bundle)
    if output_format == "json":
        click.echo((folder / "manifest.json").read_text())
        return
    for line in describe(bundle, verbose=True):
        click.echo(line)
    costs = []
    if groups:
        costs = _group_costs(folder / "model.onnx", bundle.groups, bundle.target, bundle.engine.key.precision)
    _print_parts(bundle.steps if passes else (), costs)
    if layers:
        click.echo(format_table(bundle.engine))


def _group_costs(path: Path, groups: Any, target: Any, precision: str) -> list[dict[str, Any]]:
    import onnx_ir as ir

    from hwc.cost.roofline import estimate_groups
    from hwc.graph.shapes import infer_shapes

    model = ir.load(path)
    infer_shapes(model)
    rows = []
    for cost in estimate_groups(model, groups, target, precision):
        estimate = cost.estimate
        rows.append(
            {
                "group": cost.group.id, "kind": cost.group.kind, "nodes": len(cost.group.nodes),
                "estimate_us": estimate.seconds * 1e6 if estimate else None,
                "bound": estimate.bound if estimate else cost.reason,
            }
        )  # fmt: skip
    return rows


def _print_parts(steps: Any, costs: list[dict[str, Any]]) -> None:
    for line in describe_steps(steps):
        click.echo(line)
    for row in costs:
        figure = f"{row['estimate_us']:9.2f} us estimate" if row["estimate_us"] is not None else "no estimate"
        click.echo(f"group {row['group']:<10} {figure:<22} {row['bound']:<8} {row['kind']}")


def _count_ops(path: Path) -> dict[str, int]:
    from collections import Counter

    import onnx_ir as ir

    return dict(Counter(node.op_type for node in ir.load(path).graph).most_common())


def _join(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
