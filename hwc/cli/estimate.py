"""`hwc estimate MODEL --target T`: latency and energy on a Jetson before there is one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("model", metavar="MODEL")
@click.option("--target", "-t", required=True, metavar="TARGET", help="A Jetson; see `hwc targets list`.")
@click.option("--power-mode", default="", metavar="NAME", help="nvpmodel mode by name; without it the maximum clocks.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp16", show_default=True,
              help="Of every layer.")  # fmt: skip
@click.option("--gpu-clock-mhz", type=click.FloatRange(min=0, min_open=True), help="Instead of the mode's GPU clock.")
@click.option("--memory-clock-mhz", type=click.FloatRange(min=0, min_open=True),
              help="Instead of the mode's memory clock.")  # fmt: skip
@click.option("--layers", "show_layers", is_flag=True, help="Every fusion group with its part of the time.")
@options.shapes
@options.cache
@options.FORMAT
def estimate(
    model: str, target: str, power_mode: str, precision: str, gpu_clock_mhz: float | None,
    memory_clock_mhz: float | None, show_layers: bool, input_shapes: tuple[str, ...], min_shapes: tuple[str, ...],
    opt_shapes: tuple[str, ...], max_shapes: tuple[str, ...], cache_dir: Path, no_cache: bool, output_format: str,
) -> None:  # fmt: skip
    """Estimate what MODEL will take on a board that is not at hand; nothing is built or measured."""
    from hwc.estimate import EstimateRequest, estimate_model

    request = EstimateRequest(
        model, target, precision, power_mode, gpu_clock_mhz, memory_clock_mhz,
        options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes),
    )  # fmt: skip
    with options.open_store(cache_dir, no_cache) as store, options.progress_bar("estimate") as progress:
        report = estimate_model(request, store=store, progress=progress)
    if output_format == "json":
        click.echo(json.dumps(as_json(report), indent=1))
        return
    for line in describe(report, show_layers):
        click.echo(line)


def describe(report: Any, show_layers: bool) -> list[str]:
    """The report as text."""
    machine = report.machine
    inputs = ", ".join(f"{spec.name}:{'x'.join(map(str, spec.at('opt')))}" for spec in report.inputs)
    lines = [
        f"model     {report.name}, {report.gpu.precision}, {inputs}",
        f"target    {report.target.name}, {machine.mode}: GPU {machine.gpu_hz / 1e6:g} MHz, {machine.sm_count} SMs, "
        f"{machine.bytes_per_s / 1e9:.4g} GB/s",
        f"GPU       {_interval(report.gpu, 'estimate')}",
    ]
    if report.dla is not None:
        low, high = report.together
        lines += [
            f"DLA       {_interval(report.dla, 'estimate for one core, if every layer can run there')}",
            f"GPU+DLA   {low:.0f} to {high:.0f} images/s estimate for all engines at once",
        ]
    else:
        lines += [f"DLA       no estimate: {report.dla_reason}", "GPU+DLA   no estimate, for the same reason"]
    for energy in report.energy:
        power = energy.power
        lines.append(
            f"energy    {energy.joules * 1e3:.3g} mJ estimate per inference ({energy.low * 1e3:.3g} to "
            f"{energy.high * 1e3:.3g}), at {power.watts:.3g} W; scope: {power.scope} ({power.basis})"
        )
    if not report.energy:
        lines.append(f"energy    no estimate: {report.energy_reason}")
    lines += [f"note      {note}" for note in report.notes]
    if show_layers:
        for row in report.gpu.groups:
            share = row.seconds / report.gpu.seconds
            lines.append(
                f"group {row.group:<6} {row.seconds * 1e6:9.2f} us estimate {share:6.1%}  {row.bound:<8}{row.kind}"
            )
        lines.append(f"start        {report.gpu.start_s * 1e6:9.2f} us estimate, once an inference")
    return lines


def _interval(latency: Any, words: str) -> str:
    return (
        f"{latency.seconds * 1e3:.4g} ms {words}, 80 % interval {latency.low * 1e3:.4g} to {latency.high * 1e3:.4g} ms"
    )


def as_json(report: Any) -> dict[str, Any]:
    """The report as plain values, the target by its name."""
    content = {f.name: getattr(report, f.name) for f in dataclasses.fields(report)}
    content["target"] = report.target.name
    for name in ("machine", "gpu", "dla"):
        content[name] = dataclasses.asdict(content[name]) if content[name] is not None else None
    content["inputs"] = [dataclasses.asdict(spec) for spec in report.inputs]
    content["energy"] = [dataclasses.asdict(energy) for energy in report.energy]
    content["kind"] = "estimate"
    return content
