"""`hwc unpack net.hwc -o DIR`: a packed bundle as a folder again, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write; without it, --verify only.")
@click.option("--verify", is_flag=True, help="Read back from the disk what was written; without -o, only check.")
@click.option("--max-bytes", type=click.IntRange(min=1), help="Refuse a bundle larger than that (default 16 GiB).")
@options.FORMAT
def unpack(archive: Path, output: Path | None, verify: bool, max_bytes: int | None, output_format: str) -> None:
    """Unpack ARCHIVE into a bundle folder. Every digest is checked on the way; --verify reads the result back too."""
    from hwc import archive as archives
    from hwc.errors import UsageError

    limit = max_bytes or archives.MAX_BYTES
    if output is None and not verify:
        raise UsageError("nothing to do", expected="-o DIR, or --verify to check the archive only", got="neither")
    with options.progress_bar("unpack") as progress:
        if output is None:
            members = archives.check_archive(archive, max_bytes=limit, progress=progress)
        else:
            _, members = archives.unpack(archive, output, max_bytes=limit, progress=progress)
            if verify:
                archives.verify_unpacked(output)
    total = sum(member.size for member in members)
    if output_format == "json":
        shown = {"output": str(output) if output else None, "verified": verify, "total_bytes": total}
        click.echo(json.dumps({**shown, "files": [member.name for member in members]}, indent=1))
        return
    where = f"bundle    {output}" if output else f"archive   {archive} is whole"
    click.echo(f"{where}: {len(members)} files, {total / 1e6:.2f} MB{', read back' if output and verify else ''}")
