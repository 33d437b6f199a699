"""`hwc memory DIR`, `hwc memory plan PROBLEM.csv`, `hwc memory check SOLUTION.csv`: memory plans, and their judge."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from hwc.cli import options
from hwc.cli.command import Command, Group

_SECONDS: Any = click.option("--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True,
                             help="Most time of the search; 0 leaves the greedy planners alone.")  # fmt: skip
_CAPACITY: Any = click.option("--capacity", type=click.IntRange(min=0), metavar="BYTES",
                              help="Any plan that keeps to it will do; without it the lowest is sought.")  # fmt: skip


class _Shows(Group):
    """A group whose first word may also be a folder: then it is shown."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            return super().resolve_command(ctx, ["show", *args])
        return super().resolve_command(ctx, args)


@click.group(cls=_Shows)
def memory() -> None:
    """Plan memory: `hwc memory DIR` shows a bundle's plan, `hwc memory plan FILE.csv` solves a problem of your own."""


@memory.command("show", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--sizes", type=click.Choice(["min", "opt", "max"]), default="max", show_default=True,
              help="Which size of dynamic dimensions.")
@click.option("--reuse", type=click.Choice(["none", "view", "in place", "part", "best"]), default="best",
              show_default=True, help="How tensors may share storage; each rule with those before it.")
@click.option("--columns", type=click.IntRange(min=10), default=80, show_default=True, help="Width of the drawing.")
@click.option("--rows", type=click.IntRange(min=1), default=40, show_default=True, help="Most rows of the drawing.")
@_CAPACITY
@_SECONDS
@options.FORMAT
def show(
    folder: Path, sizes: str, reuse: str, columns: int, rows: int, capacity: int | None, seconds: float,
    output_format: str,
) -> None:  # fmt: skip
    """Draw the activation memory of the bundle in DIR: time goes down, addresses go across."""
    from hwc.memory.draw import draw_plan
    from hwc.plan_bundle import describe_bundle, plan_bundle

    with options.progress_bar("memory") as progress:
        progress("planning", 0.1)
        made = plan_bundle(folder, sizes=sizes, reuse=reuse, seconds=seconds, capacity=capacity)
    if output_format == "json":
        engine = made.bundle.engine
        click.echo(json.dumps({
            "kind": "memory", "name": made.bundle.name, "sum_bytes": made.sum_bytes, "peak_tick": made.peak,
            "peak_at": made.ticks[made.peak], "reuse": made.reuse, "notes": made.notes,
            "engine": {"runtime": engine.key.runtime, "state": engine.state,
                       "activation_bytes": engine.activation_bytes},
            "plan": _as_dict(made.plan),
        }, indent=1))  # fmt: skip
    else:
        for line in (*describe_bundle(made), "", *draw_plan(made.plan, columns=columns, rows=rows)):
            click.echo(line)
    _leave(made.plan.fits)


@memory.command("plan", cls=Command)
@click.argument("problem", metavar="PROBLEM.csv", type=click.Path(path_type=Path))
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), metavar="SOLUTION.csv",
              help="Where to write the problem with a column `offset`.")
@click.option("--draw", is_flag=True, help="Draw the plan.")
@_CAPACITY
@_SECONDS
@options.FORMAT
def plan_command(
    problem: Path, out: Path | None, draw: bool, capacity: int | None, seconds: float, output_format: str
) -> None:
    """Put the buffers of PROBLEM.csv (id,lower,upper,size; alive in [lower, upper)) into one pool.

    Exit code 1 if the plan does not keep to --capacity; it is written all the same, being the best found.
    """
    from hwc.memory.check import check_plan
    from hwc.memory.csv_file import read_problem, write_solution
    from hwc.memory.draw import draw_plan
    from hwc.memory.planners import plan
    from hwc.plan_bundle import describe_plan

    buffers = read_problem(problem)
    with options.progress_bar("memory") as progress:
        progress("planning", 0.1)
        made = plan(buffers, capacity, seconds)
    check_plan(made)
    if out is not None:
        write_solution(out, made)
    if output_format == "json":
        click.echo(json.dumps({"kind": "memory", "plan": _as_dict(made)}, indent=1))
    else:
        for line in (*describe_plan(made), *(("", *draw_plan(made)) if draw else ())):
            click.echo(line)
    _leave(made.fits)


@memory.command("check", cls=Command)
@click.argument("solution", metavar="SOLUTION.csv", type=click.Path(path_type=Path))
@click.option("--capacity", type=click.IntRange(min=0), metavar="BYTES", help="No byte may lie beyond it.")
def check_command(solution: Path, capacity: int | None) -> None:
    """Judge the offsets of SOLUTION.csv, whoever made them. Exit code 1 if they are wrong."""
    from hwc.memory.check import fault_of_offsets
    from hwc.memory.csv_file import read_solution
    from hwc.memory.lifetimes import lower_bound

    buffers, offsets = read_solution(solution)
    fault = fault_of_offsets(buffers, offsets)
    height = max((offset + buffer.size_bytes for buffer, offset in zip(buffers, offsets)), default=0)
    if not fault and capacity is not None and height > capacity:
        fault = f"the plan needs {height} bytes, the capacity is {capacity}"
    click.echo(f"wrong: {fault}" if fault else
               f"right: {len(buffers)} buffers in {height} bytes, lower bound {lower_bound(buffers)}")  # fmt: skip
    _leave(not fault)


def _as_dict(plan: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(plan), "ratio": plan.ratio, "is_optimal": plan.is_optimal, "fits": plan.fits,
            "is_impossible": plan.is_impossible}  # fmt: skip


def _leave(is_good: bool) -> None:
    if not is_good:
        click.get_current_context().exit(1)
