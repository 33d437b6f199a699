"""`hwc bisect MODEL --calibration-data D`: which layer breaks a model in INT8."""

from __future__ import annotations

import dataclasses
import json
from itertools import islice
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("model")
@options.TARGET
@click.option("--calibration-data", required=True, metavar="DATA", help="Samples, as for `hwc compile`.")
@click.option("--samples", type=click.IntRange(min=1), default=64, show_default=True,
              help="Validation samples that each trial is judged on.")  # fmt: skip
@options.calibration
@options.guard
@options.shapes
@options.cache
@options.FORMAT
def bisect(
    model: str, target: str, calibration_data: str, samples: int, calibration_recipe: str, calibration_samples: int,
    calibration_method: str, improve: tuple[str, ...], rounding_seconds: float, validation_data: str,
    validation_recipe: str, metric: str, max_drop: float, drop_type: str, input_shapes: tuple[str, ...],
    min_shapes: tuple[str, ...], opt_shapes: tuple[str, ...], max_shapes: tuple[str, ...], cache_dir: Path,
    no_cache: bool, output_format: str,
) -> None:  # fmt: skip
    """Name the layer, or the smallest set of layers, whose integers cost MODEL more accuracy than --max-drop."""
    from hwc.capture import MODEL, capture_model
    from hwc.compile import resolve_target
    from hwc.graph.evaluate import Evaluator
    from hwc.optimize import OptimizeOptions, optimize_model
    from hwc.precision.metrics import load_metric
    from hwc.precision.remember_baseline import Baseline
    from hwc.quantize import calibrate_model, default_metric, open_samples
    from hwc.search_layers import find_breaking
    from hwc.store import key_of

    chosen = options.calibration_options(
        calibration_data, calibration_recipe, calibration_samples, calibration_method, improve, rounding_seconds
    )
    shapes = options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes)
    with options.open_store(cache_dir, no_cache) as store, options.progress_bar("bisect") as progress:
        hardware = resolve_target(target, store)
        captured, _ = capture_model(model, shapes, store=store)
        how = OptimizeOptions("fp32", hardware.engine)
        full, _ = optimize_model(captured, hardware, how, store=store, progress=progress)
        calibration, validation = open_samples(chosen, full.inputs, validation_data, validation_recipe)
        found, _ = calibrate_model(
            full, hardware, hardware.engine, calibration, chosen, store=store, progress=progress
        )
        judged = list(islice(validation, samples))
        score = load_metric(metric or default_metric(full, judged[0]))
        breaking = find_breaking(
            found.plan, full, Baseline(Evaluator(full.folder / MODEL).run), judged, score, limit=max_drop,
            drop_type=drop_type, work=store.partial("bisect", found.key),
            key=key_of(found.key, validation.digest, samples), progress=progress,
        )  # fmt: skip
    if output_format == "json":
        click.echo(json.dumps(dataclasses.asdict(breaking), indent=1))
        return
    unit = "points" if drop_type == "absolute" else "% of FP32"
    click.echo(f"answer    {breaking.sentence()}")
    click.echo(f"drop      {breaking.drop_low:.2f} {unit} of {score.name} in INT8, limit {max_drop:g}, "
               f"{len(judged)} samples, {breaking.trials} trials")  # fmt: skip
    for suspect in breaking.suspects:
        drops = f"alone {suspect.drop_alone:.2f}, all but it {suspect.drop_without:.2f}"
        click.echo(f"suspect   {suspect.group} ({suspect.kind}: {', '.join(suspect.layers[:3])}): {drops}")
