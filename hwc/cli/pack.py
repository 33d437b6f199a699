"""`hwc pack DIR -o net.hwc`: a bundle as one file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Archive to write, as net.hwc.")
@options.FORMAT
def pack(bundle: Path, output: Path, output_format: str) -> None:
    """Pack BUNDLE into one file that `hwc unpack` takes, or tar: its bytes depend on the bundle alone."""
    from hwc.archive import pack as pack_bundle
    from hwc.bundle import sha256_file

    with options.progress_bar("pack") as progress:
        found, members = pack_bundle(bundle, output, progress=progress)
    size, total = output.stat().st_size, sum(member.size for member in members)
    digest = sha256_file(output)
    if output_format == "json":
        shown = {"archive": str(output), "sha256": digest, "size_bytes": size, "total_bytes": total}
        click.echo(json.dumps({**shown, "bundle": found.name, "files": [member.name for member in members]}, indent=1))
        return
    click.echo(f"bundle    {found.name} for {found.target.name}: {len(members)} files, {total / 1e6:.2f} MB")
    click.echo(f"archive   {output}: {size / 1e6:.2f} MB, sha256 {digest}")
