"""`hwc run DIR`: one inference of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--load-inputs", multiple=True, metavar="NAME:FILE", help="Inputs from .npy files or one .npz.")
@click.option("--engine", default="", help="Run model.onnx with this engine instead of the one that was built.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the outputs to this .npz.")
@options.THREADS
@options.FORMAT
def run(
    bundle: Path, load_inputs: tuple[str, ...], engine: str, output: Path | None, threads: int, output_format: str
) -> None:
    """Run a bundle's engine once on the given inputs, or on seeded noise, and print what came out."""
    from hwc.sessions import describe_outputs, make_feeds, open_bundle, save_outputs

    with open_bundle(bundle, engine=engine, threads=threads) as session:
        feeds = make_feeds(session.inputs, options.load_inputs(load_inputs))
        outputs = session.run(feeds)
    if output is not None:
        save_outputs(output, outputs)
    rows = describe_outputs(outputs)
    if output_format == "json":
        click.echo(json.dumps({"inputs": sorted(feeds), "outputs": rows}, indent=1))
        return
    if not load_inputs:
        click.echo("inputs: seeded noise (give --load-inputs for real ones)")
    for row in rows:
        shape = "x".join(map(str, row["shape"])) or "scalar"
        figures = ", ".join(f"{key} {row[key]:.6g}" for key in ("min", "max", "mean") if row[key] is not None)
        click.echo(f"{row['name']}: {row['dtype']} {shape}{', ' if figures else ''}{figures}")
