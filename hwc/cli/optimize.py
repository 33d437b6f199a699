"""`hwc optimize MODEL -t T -o net.onnx`: the passes alone, with what each did."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("model")
@options.TARGET
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="ONNX file to write, if any."
)
@click.option(
    "--precision", default="fp32", show_default=True, metavar="auto|fp32|fp16|bf16", help="Its types."
)
@options.shapes
@click.option("--engine", default="", help="Engine to optimize for instead of the target's own.")
@click.option("--passes", "passes", multiple=True, metavar="-NAME", help="Leave the pass NAME out.")
@options.cache
@options.FORMAT
def optimize(
    model: str, target: str, output: Path | None, precision: str, input_shapes: tuple[str, ...],
    min_shapes: tuple[str, ...], opt_shapes: tuple[str, ...], max_shapes: tuple[str, ...], engine: str,
    passes: tuple[str, ...], cache_dir: Path, no_cache: bool, output_format: str,
) -> None:  # fmt: skip
    """Run the graph passes for a target and print what each rewrote, and what it nearly did."""
    from hwc.capture import MODEL, capture_model
    from hwc.compile import resolve_target
    from hwc.graph.save import copy_model_file
    from hwc.optimize import OptimizeOptions, optimize_model
    from hwc.sessions import check_output_file

    if output is not None:
        check_output_file(output)
    shapes = options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes)
    with options.open_store(cache_dir, no_cache) as store, options.progress_bar("optimize") as progress:
        hardware = resolve_target(target, store)
        captured, _ = capture_model(model, shapes, store=store)
        chosen = OptimizeOptions(precision, engine or hardware.engine, options.parse_pass_names(passes))
        optimized, _ = optimize_model(captured, hardware, chosen, store=store, progress=progress)
        if output is not None:
            copy_model_file(optimized.folder / MODEL, output)
    if output_format == "json":
        click.echo(
            json.dumps({"steps": [dataclasses.asdict(s) for s in optimized.steps], "notes": optimized.notes}, indent=1)
        )
        return
    for line in describe_steps(optimized.steps):
        click.echo(line)
    for note in (*captured.notes, *optimized.notes):
        click.echo(f"note      {note}")
    if output is not None:
        click.echo(f"written   {output}")


def describe_steps(steps: object, *, misses: int = 3) -> list[str]:
    """One line a pass, its near misses indented below; at most `misses` of each reason's nodes are named."""
    lines = []
    for step in steps:  # type: ignore[attr-defined]
        lines.append(
            f"{step.name:<28} rewrites {step.rewrites:<4} nodes {step.nodes_before} -> {step.nodes_after}  "
            f"missed {len(step.misses)}  {step.seconds * 1e3:.0f} ms"
        )
        reasons: dict[str, list[str]] = {}
        for miss in step.misses:
            reasons.setdefault(miss.reason, []).append(miss.node)
        for reason, nodes in reasons.items():
            more = f" and {len(nodes) - misses} more" if len(nodes) > misses else ""
            lines.append(f"    missed: {', '.join(nodes[:misses])}{more}: {reason}")
        lines += [f"    note: {note}" for note in step.notes]
    return lines
