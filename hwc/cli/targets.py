"""`hwc targets list` and `hwc targets show TARGET`: the hardware facts, each with its source."""

from __future__ import annotations

import dataclasses
import json

import click

from hwc.cli import options
from hwc.cli.command import Command, Group

_NO_UNIT = ("name", "version", "count", "yes/no", "text")


@click.group(cls=Group)
def targets() -> None:
    """List the hardware that can be compiled for, and show its facts with their sources."""


@targets.command("list", cls=Command)
@options.FORMAT
@click.option("--with", "feature", type=click.Choice(["dla"]), help="Only targets that have this.")
def list_targets(output_format: str, feature: str | None) -> None:
    """One line a target."""
    from hwc import targets as catalogue

    rows = []
    for name in catalogue.names():
        target = catalogue.load(name)
        if feature == "dla" and not (target.knows("dla.count") and target.number("dla.count") > 0):
            continue
        rows.append(target)
    if output_format == "json":
        click.echo(json.dumps([{"name": t.name, "title": t.title, "engine": t.engine} for t in rows], indent=1))
        return
    width = max((len(t.name) for t in rows), default=0)
    for target in rows:
        sm = target.facts.get("gpu.compute_capability")
        compute = f"sm {sm.value}" if sm is not None and sm.is_known else "-"
        click.echo(f"{target.name:<{width}}  {target.engine:<13} {compute:<8} {target.title}")
    aliases = ", ".join(f"{alias} = {name}" for alias, name in sorted(catalogue.ALIASES.items()))
    click.echo(f"aliases: {aliases}")


@targets.command("show", cls=Command)
@click.argument("name")
@options.FORMAT
def show_target(name: str, output_format: str) -> None:
    """Every fact of one target, with unit and source."""
    from hwc import targets as catalogue

    target = catalogue.load(name)
    if output_format == "json":
        click.echo(json.dumps(dataclasses.asdict(target), indent=1))
        return
    click.echo(f"{target.name}: {target.title} ({target.family}, engine {target.engine})")
    for key in sorted(target.facts):
        fact = target.facts[key]
        value = "unknown" if fact.value is None else _show(fact.value)
        unit = (
            "" if fact.unit in ("name", "version", "count", "yes/no", "text") or fact.value is None else f" {fact.unit}"
        )
        click.echo(f"  {key:<40} {value}{unit}")
        click.echo(f"  {'':<40}   source: {fact.source}" + (f" ({fact.note})" if fact.note else ""))
    for mode in target.power_modes:
        watts = "uncapped" if mode.watts == 0 else f"{mode.watts:g} W" if mode.watts is not None else "unknown"
        clock = f"GPU {mode.gpu_clock_mhz:g} MHz" if mode.gpu_clock_mhz is not None else "GPU clock unknown"
        default = ", default" if mode.is_default else ""
        click.echo(f"  power mode {mode.id:<3} {mode.name:<24} {watts}, {clock}{default}  source: {mode.source}")
    for note in target.notes:
        click.echo(f"  note: {note}")


def _show(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
