"""`hwc doctor`: what this machine is, which engines can build or run here, and how it differs from a target."""

from __future__ import annotations

import json

import click

from hwc.cli import options
from hwc.cli.command import Command, Rejected


@click.command(cls=Command)
@click.option("-t", "--target", default="", help="Also compare this machine with that target.")
@options.FORMAT
def doctor(target: str, output_format: str) -> None:
    """Say what this machine is and what can be built and run on it."""
    from hwc import targets
    from hwc.engines.tensorrt import has_cuda_gpu
    from hwc.targets.check_machine import check_base, check_target, describe_machine
    from hwc.targets.probe import compare, probe

    facts, cache = probe(), options.default_cache()
    known = {name: fact.value for name, fact in sorted(facts.items()) if fact.is_known}
    engines = [
        ("reference", True, True),
        ("onnxruntime", "software.onnxruntime" in known, "software.onnxruntime" in known),
        ("openvino", "software.openvino" in known, "software.openvino" in known),
        ("tensorrt_rtx", "software.tensorrt_rtx" in known, False),
        ("tensorrt", "software.tensorrt" in known and has_cuda_gpu(), False),
    ]
    wanted = targets.load(target) if target else None
    differences = compare(wanted, facts) if wanted else ()
    # The same rows as `python3 hwc.pyz doctor`; what only a board needs is asked there.
    base = check_base(facts, cache)
    checks = base + (check_target(wanted, facts, wanted.engine) if wanted else [])
    if output_format == "json":
        click.echo(
            json.dumps(
                {
                    "facts": known,
                    "engines": {name: {"builds": builds, "runs": runs} for name, builds, runs in engines},
                    "differences": [vars(d) for d in differences],
                    "machine": describe_machine(facts, cache),
                    "checks": [vars(check) for check in checks],
                },
                indent=1,
                default=str,
            )
        )
    else:
        for name, value in known.items():
            click.echo(f"{name:<28} {value}")
        for name, builds, runs in engines:
            click.echo(f"engine {name:<21} {'builds' if builds else 'does not build'} here, {_runs(runs, builds)}")
        click.echo(f"step cache {cache}")
        for check in base:
            click.echo(f"{check.status:<5} {check.name}: {check.message}" + (f"; {check.do}" if check.do else ""))
        for difference in differences:
            click.echo(f"differs from {target}: {difference.fact}: expected {difference.expected}, {difference.found}")
    if differences:
        raise Rejected(f"this machine is not {target}: {len(differences)} differences")


def _runs(runs: bool, builds: bool) -> str:
    if runs:
        return "runs here"
    return "cannot run here (no CUDA GPU session in this version)" if builds else "does not run here"
