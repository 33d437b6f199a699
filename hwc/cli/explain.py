"""`hwc explain DIR`: the ledger in words: what was tried, what was undone, why, and what that cost."""

from __future__ import annotations

from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@options.FORMAT
def explain(folder: Path, output_format: str) -> None:
    """Say in words how the precision of the bundle in DIR was chosen.

    DIR may also be a ledger file: where nothing passed the guard, `hwc compile -o DIR` leaves DIR.ledger.json.
    """
    from hwc.explain import describe_ledger, read_ledger
    from hwc.serialize import to_json

    ledger = read_ledger(folder)
    if output_format == "json":
        click.echo(to_json(ledger), nl=False)
        return
    for line in describe_ledger(ledger):
        click.echo(line)
