"""`hwc deploy BUNDLE --host user@board`: to one board or several, over the user's own ssh."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", "addresses", multiple=True, metavar="USER@BOARD", help="A board, as ssh takes it; repeatable.")
@click.option("--hosts", "hosts_file", type=click.Path(path_type=Path), help="A hosts.toml with several boards.")
@click.option("--port", type=click.IntRange(1, 65535), help="Its ssh port, if ~/.ssh/config does not say it.")
@click.option("--remote-dir", default="", metavar="DIR", help="The bundle's folder there.  [default: ~/hwc/NAME]")
@click.option("--build", is_flag=True, help="Build the engine there.")
@click.option("--profile", is_flag=True, help="Build it if need be, measure it, and fetch the report.")
@click.option("--duration", type=click.FloatRange(min=0.01), default=10.0, show_default=True, help="Seconds measured.")
@click.option("--builds", type=click.IntRange(min=1), default=1, show_default=True, help="Builds; the best is kept.")
@click.option("--force", is_flag=True, help="Build even if the board has that engine.")
@click.option("--accept-differences", is_flag=True, help="Build with another TensorRT than the target's.")
@click.option("--power-mode", default="", metavar="NAME", help="Set this nvpmodel mode meanwhile (needs sudo there).")
@click.option("--keep-power-mode", is_flag=True, help="Do not restore the former mode.")
@click.option("--no-rsync", is_flag=True, help="Copy without rsync even where both sides have it.")
@click.option("--ssh-config", type=click.Path(path_type=Path), help="Instead of ~/.ssh/config.")
@click.option("--dry-run", is_flag=True, help="Connect and look, say what would be done, write nothing.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write every board's report to this JSON file.")
@options.FORMAT
def deploy(
    bundle: Path, addresses: tuple[str, ...], hosts_file: Path | None, port: int | None, remote_dir: str, build: bool,
    profile: bool, duration: float, builds: int, force: bool, accept_differences: bool, power_mode: str,
    keep_power_mode: bool, no_rsync: bool, ssh_config: Path | None, dry_run: bool, output: Path | None,
    output_format: str,
) -> None:  # fmt: skip
    """Copy a bundle to boards, build and measure there. Run the same command again after a cut link: it goes on."""
    from hwc.bundle import read_bundle, verify_bundle
    from hwc.remote.deploy_hosts import deploy_hosts, exit_code
    from hwc.remote.host_result import DeployOptions
    from hwc.remote.hosts import gather_hosts
    from hwc.remote.report_hosts import format_result
    from hwc.sessions import check_output_file, staged_file

    if output is not None:
        check_output_file(output)  # before the work, not after it
    hosts = gather_hosts(addresses, hosts_file, port=port or 0, remote_dir=remote_dir)
    found = read_bundle(bundle)
    verify_bundle(bundle, found)
    how = DeployOptions(
        build=build, profile=profile, power_mode=power_mode, keep_power_mode=keep_power_mode, duration_s=duration,
        builds=builds, force=force, accept_differences=accept_differences, use_rsync=not no_rsync, dry_run=dry_run,
        ssh_config=ssh_config,
    )  # fmt: skip
    with _progress([host.label for host in hosts]) as progress:
        results = deploy_hosts(bundle, found, hosts, how, progress)
    document = json.dumps({"bundle": found.name, "hosts": [result.to_dict() for result in results]}, indent=1)
    if output is not None:
        with staged_file(output) as partial:
            partial.write_text(document, encoding="utf-8")
    error = results[0].error
    if len(results) == 1 and error is not None:
        if output_format == "text":
            click.echo(format_result(results[0], with_error=False))
        raise error
    click.echo(document if output_format == "json" else "\n".join(format_result(result) for result in results))
    code = exit_code(results)
    if code:
        count = sum(result.error is not None for result in results)
        click.echo(f"{count} of {len(results)} boards failed", err=True)
        raise click.exceptions.Exit(code)


@contextlib.contextmanager
def _progress(labels: list[str]) -> Iterator[Callable[[str, str, float, str], None]]:
    """One bar for each board on a terminal; in a log one line for each step, since steps may take an hour."""
    if not sys.stderr.isatty():
        steps: dict[str, str] = {}

        def log(host: str, step: str, fraction: float, text: str) -> None:
            if steps.get(host) != step:
                steps[host] = step
                click.echo(f"{host}: {step}", err=True)

        yield log
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {label: bars.add_task(label, total=1.0, text="") for label in labels}

        def show(host: str, step: str, fraction: float, text: str) -> None:
            bars.update(tasks[host], completed=fraction, description=f"{host}: {step}", text=text)

        yield show
