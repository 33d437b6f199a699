"""`hwc export MODEL -o net.onnx`: the captured graph, after the parity gate, before any pass."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@options.shapes
@options.cache
@options.FORMAT
def export(
    model: str, output: Path, input_shapes: tuple[str, ...], min_shapes: tuple[str, ...], opt_shapes: tuple[str, ...],
    max_shapes: tuple[str, ...], cache_dir: Path, no_cache: bool, output_format: str,
) -> None:  # fmt: skip
    """Export MODEL to ONNX and prove that the graph computes what the model computes."""
    from hwc.capture import MODEL, capture_model
    from hwc.graph.save import copy_model_file
    from hwc.sessions import check_output_file

    check_output_file(output)
    shapes = options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes)
    with options.open_store(cache_dir, no_cache) as store:
        captured, reused = capture_model(model, shapes, store=store)
        copy_model_file(captured.folder / MODEL, output)
    if output_format == "json":
        click.echo(json.dumps({"output": str(output), "digest": captured.digest, "notes": captured.notes}, indent=1))
        return
    for note in captured.notes:
        click.echo(f"note      {note}")
    click.echo(f"written   {output}{' (capture reused)' if reused else ''}")
