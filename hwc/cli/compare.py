"""`hwc compare A B`: do two bundles (or one bundle in two engines) give the same outputs?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command, Rejected


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path), required=False)
@click.option("--engine", default="", help="Engine for the first; default is the one that was built.")
@click.option("--other-engine", default="", help="Engine for the second; without OTHER, `reference`.")
@click.option(
    "--tolerance", "precision", default="", metavar="fp32|fp16|bf16", help="Whose tolerance to hold to."
)
@click.option("--load-inputs", multiple=True, metavar="NAME:FILE", help="Inputs from .npy files or one .npz.")
@options.THREADS
@options.FORMAT
def compare(
    bundle: Path, other: Path | None, engine: str, other_engine: str, precision: str, load_inputs: tuple[str, ...],
    threads: int, output_format: str,
) -> None:  # fmt: skip
    """Run two engines on the same inputs and compare their outputs, element by element.

    The second is the reference. Without OTHER it is the same bundle's graph in the ONNX reference evaluator.
    """
    from hwc.bundle import read_bundle
    from hwc.compare import compare_outputs, tolerance_of
    from hwc.sessions import make_feeds, open_bundle

    tolerance = tolerance_of(precision or read_bundle(bundle).engine.key.precision)
    with open_bundle(bundle, engine=engine, threads=threads) as session:
        feeds = make_feeds(session.inputs, options.load_inputs(load_inputs))
        got = session.run(feeds)
    with open_bundle(
        other or bundle, engine=other_engine or ("" if other else "reference"), threads=threads
    ) as session:
        expected = session.run(make_feeds(session.inputs, feeds))
    differences = compare_outputs(expected, got, tolerance)
    if output_format == "json":
        click.echo(json.dumps([dataclasses.asdict(d) for d in differences], indent=1))
    else:
        for d in differences:
            verdict = "same" if d.passed else f"DIFFERS: {d.reason}"
            click.echo(f"{d.output}: max abs {d.max_abs:.3g}, relative {d.relative:.3g}, {d.sqnr_db:.1f} dB: {verdict}")
    if not all(d.passed for d in differences):
        raise Rejected(f"outputs differ by more than {tolerance}")
