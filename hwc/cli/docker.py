"""`hwc docker build --target T` and `hwc docker list`: images of the device half, from the targets' facts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command, Group


@click.group(cls=Group)
def docker() -> None:
    """Build container images of the device half for boards and cards."""


@docker.command("build", cls=Command)
@click.option("-t", "--target", required=True, help="Board or card to build for; see `hwc docker list`.")
@click.option("--platform", default="", metavar="linux/ARCH", help="Only with --base-image: another platform.")
@click.option("--base-image", default="", metavar="IMAGE", help="Base image instead of the one in the target's facts.")
@click.option("--tag", default="", metavar="NAME:TAG", help="Name of the result; hwc:GENERATION by default.")
@click.option("--push", is_flag=True, help="Push to the registry in --tag instead of loading into the local Docker.")
@click.option("--context", type=click.Path(path_type=Path), default=Path("."), help="The checkout to build from.")
@click.option("--dry-run", is_flag=True, help="Print the command and run nothing.")
@options.FORMAT
def build(
    target: str, platform: str, base_image: str, tag: str, push: bool, context: Path, dry_run: bool,
    output_format: str,
) -> None:  # fmt: skip
    """Build the image for one target with `docker buildx`. No engine is built in it: that needs the board."""
    from hwc import targets
    from hwc.docker import build_image, plan_image

    plan = plan_image(targets.load(target), platform=platform, tag=tag, base_image=base_image, is_pushed=push)
    if output_format == "json":
        fields = {**dataclasses.asdict(plan), "command": plan.command(), "is_dry_run": dry_run}
        click.echo(json.dumps(fields, indent=1))
    else:
        # A comment to the shell too, so that the whole output can be pasted.
        click.echo(f"# base image from {plan.source}" + (f" ({plan.note})" if plan.note else ""))
        click.echo(plan.text())
    if not dry_run:
        # Docker writes its progress to stderr, so stdout stays the command, or one JSON document.
        build_image(plan, context)


@docker.command("list", cls=Command)
@options.FORMAT
def list_images(output_format: str) -> None:
    """One line a target: its Dockerfile, platform and base image, or why there is none."""
    from hwc import targets
    from hwc.docker import plan_image
    from hwc.errors import TargetError

    rows = []
    for name in targets.names():
        try:
            rows.append(dataclasses.asdict(plan_image(targets.load(name))))
        except TargetError as error:
            rows.append({"target": name, "refused": f"{error.what}: {error.got}"})
    if output_format == "json":
        click.echo(json.dumps(rows, indent=1))
        return
    width = max(len(row["target"]) for row in rows)
    for row in rows:
        what = row.get("refused") or f"{row['dockerfile']:<27} {row['platform']:<12} {row['base_image']}"
        click.echo(f"{row['target']:<{width}}  {what}")
