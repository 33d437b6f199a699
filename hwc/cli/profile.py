"""`hwc profile DIR [--vs DIR2]`: latency, measured until it can be trusted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from hwc.cli import options
from hwc.cli.command import Command


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--vs", "other", type=click.Path(path_type=Path), help="Measure this bundle in turn and print the ratio.")
@click.option("--engine", default="", help="Run model.onnx with this engine instead of the one that was built.")
@click.option("--vs-engine", default="", help="The same for --vs; without --vs, the same bundle in that engine.")
@click.option("--duration", type=float, default=3.0, show_default=True, help="Seconds to measure.")
@click.option("--warmup-ms", type=float, default=500.0, show_default=True, help="Shortest warm-up in milliseconds.")
@click.option("--min-runs", type=click.IntRange(min=1), default=10, show_default=True, help="At least this many runs.")
@click.option("--layers", is_flag=True, help="Also time layers, in a run of its own.")
@click.option("--load-inputs", multiple=True, metavar="NAME:FILE", help="Inputs from .npy files or one .npz.")
@click.option("--power", type=click.Choice(["none", "auto", "rapl", "nvml", "tegrastats", "ina3221"]), default="none",
              show_default=True, help="Meter for power and energy; auto takes what fits the target.")
@click.option("--idle", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True,
              help="Seconds of idle to measure before, with --power.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the raw samples to this JSON file.")
@options.THREADS
@options.FORMAT
def profile(
    bundle: Path, other: Path | None, engine: str, vs_engine: str, duration: float, warmup_ms: float, min_runs: int,
    layers: bool, load_inputs: tuple[str, ...], power: str, idle: float, output: Path | None, threads: int,
    output_format: str,
) -> None:  # fmt: skip
    """Measure a bundle's latency, with --power its energy too; with --vs, two bundles in turn and their ratio."""
    from hwc.errors import UsageError
    from hwc.profile.measure import MeasureOptions, measure, measure_pair
    from hwc.profile.measure_power import Measurement, measure_session
    from hwc.profile.report_measurement import dump_measurements, format_measurement, summarize_measurement
    from hwc.sessions import check_output_file, make_feeds, open_bundle, runs_on, staged_file

    if output is not None:
        check_output_file(output)  # before the measurement, not after it
    if power != "none" and (other is not None or vs_engine):
        raise UsageError(
            "power is measured for one engine at a time", got=f"--power {power} with --vs",
            do="run hwc profile --power for each, one after the other",
        )  # fmt: skip
    how = MeasureOptions(warmup_s=warmup_ms / 1e3, duration_s=duration, min_runs=min_runs)
    given = options.load_inputs(load_inputs)
    with options.progress_bar("profile") as progress:
        if other is None and not vs_engine:
            with open_bundle(bundle, engine=engine, threads=threads) as session:
                feeds = make_feeds(session.inputs, given)
                measured = [
                    measure_session(
                        session, feeds, how, name=_label(bundle, engine), target=runs_on(bundle, engine), power=power,
                        idle_s=idle, progress=progress,
                    )
                ]  # fmt: skip
            ratio = None
        else:
            second = other or bundle
            with (
                open_bundle(bundle, engine=engine, threads=threads) as a,
                open_bundle(second, engine=vs_engine, threads=threads) as b,
            ):
                names = (_label(bundle, engine), _label(second, vs_engine))
                feeds, same = make_feeds(a.inputs, given), make_feeds(b.inputs, given)
                first, last, ratio = measure_pair(a, b, feeds, same, how, names=names, progress=progress)
                measured = [Measurement(first), Measurement(last)]
        if layers:
            # Timing layers slows an engine down, so it gets a run of its own and the latency above stays clean.
            with open_bundle(bundle, engine=engine, threads=threads, profile=True) as session:
                short = dataclasses.replace(how, duration_s=min(duration, 1.0))
                timed = measure(session, make_feeds(session.inputs, given), short, name="layers", progress=progress)
            profile = dataclasses.replace(measured[0].profile, layers=timed.layers)
            measured[0] = dataclasses.replace(measured[0], profile=profile)
    profiles = [one.profile for one in measured]
    if output is not None:
        samples = {**dump_measurements(measured), "ratio": ratio and dataclasses.asdict(ratio)}
        with staged_file(output) as partial:
            partial.write_text(json.dumps(samples, indent=1))
    if output_format == "json":
        shown = [
            {**summarize_measurement(one), "layers": [dataclasses.asdict(k) for k in one.profile.layers]}
            for one in measured
        ]
        click.echo(json.dumps({"profiles": shown, "ratio": ratio and dataclasses.asdict(ratio)}, indent=1))
        return
    for one in measured:
        click.echo(format_measurement(one, layers=20 if layers else 0))
    if ratio is not None:
        word = "faster" if ratio.ratio < 1 else "slower"
        sure = "" if ratio.is_decided else " (the interval holds 1: no difference was shown)"
        click.echo(
            f"Paired ratio: {profiles[0].engine} takes {ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] of the "
            f"time of {profiles[1].engine} over {len(ratio.pairs)} pairs: {1 / min(ratio.ratio, 1 / ratio.ratio):.2f}x "
            f"{word}{sure}"
        )


def _label(bundle: Path, engine: str) -> str:
    return f"{bundle.name} in {engine}" if engine else bundle.name
