"""`hwc calibrate MODEL --data D -o table.json`: the scales of a model for a target, from samples."""

from __future__ import annotations

from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("model")
@options.TARGET
@click.option("--data", required=True, metavar="DATA",
              help="Folder of images, .npz, .npy or file.py:generator; photos@0:300 is a slice.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Quant table (JSON) to write.")
@click.option("--cache-output", type=click.Path(path_type=Path),
              help="Also write TensorRT's calibration cache, with the header of the target's TensorRT.")  # fmt: skip
@options.calibration
@options.shapes
@click.option("--engine", default="", help="Engine to calibrate for instead of the target's own.")
@options.cache
@options.FORMAT
def calibrate(
    model: str, target: str, data: str, output: Path, cache_output: Path | None, calibration_recipe: str,
    calibration_samples: int, calibration_method: str, improve: tuple[str, ...], rounding_seconds: float,
    input_shapes: tuple[str, ...], min_shapes: tuple[str, ...], opt_shapes: tuple[str, ...],
    max_shapes: tuple[str, ...], engine: str, cache_dir: Path, no_cache: bool, output_format: str,
) -> None:  # fmt: skip
    """Measure the ranges of MODEL on samples and choose the scale of every tensor that INT8 needs one for.

    An interrupted calibration goes on where it was when it is run again.
    """
    from hwc.calibrate.cache import write_cache
    from hwc.capture import capture_model
    from hwc.compile import resolve_target
    from hwc.optimize import OptimizeOptions, optimize_model
    from hwc.quantize import calibrate_model, open_all_samples
    from hwc.serialize import to_json
    from hwc.sessions import check_output_file, staged_file

    for path in (output, cache_output):
        if path is not None:
            check_output_file(path)
    chosen = options.calibration_options(
        data, calibration_recipe, calibration_samples, calibration_method, improve, rounding_seconds
    )
    shapes = options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes)
    with options.open_store(cache_dir, no_cache) as store, options.progress_bar("calibrate") as progress:
        hardware = resolve_target(target, store)
        backend = engine or hardware.engine
        captured, _ = capture_model(model, shapes, store=store)
        optimized, _ = optimize_model(
            captured, hardware, OptimizeOptions("fp32", backend), store=store, progress=progress
        )
        samples = open_all_samples(chosen, optimized.inputs)
        found, was_kept = calibrate_model(
            optimized, hardware, backend, samples, chosen, store=store, progress=progress
        )
        cache_text = write_cache(found.table, hardware) if cache_output is not None else ""
    text = to_json(found.table)
    with staged_file(output) as partial:
        partial.write_text(text, encoding="utf-8")
    if cache_output is not None:
        with staged_file(cache_output) as partial:
            partial.write_text(cache_text, encoding="utf-8")
    if output_format == "json":
        click.echo(text, nl=False)
        return
    table = found.table
    click.echo(f"samples   {table.samples}, digest {table.data_digest[:16]}")
    click.echo(f"scales    {len(table.tensors)} activations ({_methods(table.tensors)}), {len(table.weights)} weights")
    for note in table.notes:
        click.echo(f"note      {note}")
    for name, value in found.effects.items():
        click.echo(f"effect    {name} {value:.4g}")
    if was_kept:
        click.echo("reused    calibration from the step cache")
    click.echo(f"written   {output}" + (f", {cache_output}" if cache_output is not None else ""))


def _methods(tensors: object) -> str:
    """How many scales each method chose."""
    from collections import Counter

    counts = Counter(scale.method for scale in tensors.values())  # type: ignore[attr-defined]
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
