"""`hwc compile MODEL --target T -o DIR`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from hwc.cli import builder_options as builder_flags
from hwc.cli import options
from hwc.cli.command import Command


@click.command("compile", cls=Command)
@click.argument("model")
@options.TARGET
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Bundle folder to write.")
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    metavar="auto|fp32|fp16|bf16|int8",
    help="Arithmetic of the engine; auto takes the fastest that keeps the accuracy (INT8 with --calibration-data).",
)
@click.option("--fp16", "wants_fp16", is_flag=True, help="Same as --precision fp16.")
@click.option("--best", "wants_best", is_flag=True, help="Same as --precision auto.")
@options.shapes
@click.option("--engine", default="", help="Engine to build instead of the target's own.")
@click.option("--passes", "passes", multiple=True, metavar="-NAME", help="Leave the pass NAME out.")
@click.option("--normalize", multiple=True, metavar="INPUT:MEAN/STD[:uint8]", help=(
    "Fold (x - MEAN) / STD into the first layer, as in image:127,127,127/128,128,128:uint8."))  # fmt: skip
@click.option("--engine-option", multiple=True, metavar="NAME=VALUE", help="Passed to the engine's builder.")
@builder_flags.builder
@click.option("--dla-objective", type=click.Choice(["latency", "offload", "all"]), help=(
    "With --use-dla-core and --gpu-fallback: the fastest inference, the least work for the GPU (default), or all "
    "layers that may run there, as trtexec does it."))
@click.option("--memory-budget", default="", metavar="SIZE",
              help="Most activation memory, as 512MiB: reorder, recompute and tile the graph until it fits.")
@click.option("--compare-plain", is_flag=True, help="Also build the graph without any pass and report both.")
@click.option("--calibration-data", default="", metavar="DATA",
              help="Samples for INT8: folder of images, .npz, .npy or file.py:generator; photos@0:300 is a slice.")
@options.calibration
@options.guard
@options.THREADS
@options.cache
@options.FORMAT
@click.option("--verbose", is_flag=True, help="Print every pass and note.")
def compile_command(
    model: str, target: str, output: Path, precision: str, wants_fp16: bool, wants_best: bool,
    input_shapes: tuple[str, ...], min_shapes: tuple[str, ...], opt_shapes: tuple[str, ...],
    max_shapes: tuple[str, ...], engine: str, passes: tuple[str, ...], normalize: tuple[str, ...],
    engine_option: tuple[str, ...], builder_options: dict[str, str], dla_objective: str | None, memory_budget: str,
    compare_plain: bool,
    calibration_data: str, calibration_recipe: str, calibration_samples: int, calibration_method: str,
    improve: tuple[str, ...], rounding_seconds: float, validation_data: str, validation_recipe: str, metric: str,
    max_drop: float, drop_type: str, threads: int,
    cache_dir: Path, no_cache: bool, output_format: str, verbose: bool,
) -> None:  # fmt: skip
    """Compile MODEL into a bundle: graph passes, engine, manifest.

    MODEL is net.onnx, file.py:callable, package.module:callable, a TorchScript or an exported-program file.
    """
    from hwc.choose_precision import GuardOptions
    from hwc.compile import CompileRequest, compile_model

    if wants_fp16 or wants_best:
        precision = "fp16" if wants_fp16 and not wants_best else "auto"
    extra = {**options.parse_pairs(engine_option, "--engine-option"), **builder_options}
    precision = builder_flags.precision_with(precision, extra)
    request = CompileRequest(
        model=model,
        target=target,
        out=output,
        precision=precision,
        shapes=options.parse_input_shapes(input_shapes, min_shapes, opt_shapes, max_shapes),
        engine=engine,
        without_passes=options.parse_pass_names(passes),
        normalization=options.parse_normalization(normalize),
        engine_options=extra,
        threads=threads,
        compare_plain=compare_plain,
        command=("hwc", *sys.argv[1:]),
        calibration=options.calibration_options(
            calibration_data, calibration_recipe, calibration_samples, calibration_method, improve, rounding_seconds
        ),
        guard=GuardOptions(validation_data, metric, max_drop, drop_type, validation_recipe),
        dla_objective=dla_objective or "",
        memory_budget=options.parse_bytes(memory_budget, "--memory-budget") if memory_budget else 0,
    )
    with options.open_store(cache_dir, no_cache) as store, options.progress_bar(f"compile for {target}") as progress:
        bundle, reused = compile_model(request, store=store, progress=progress)
    if output_format == "json":
        from hwc.serialize import to_json

        click.echo(json.dumps({"reused": list(reused), "bundle": json.loads(to_json(bundle))}, indent=1))
        return
    for line in describe(bundle, verbose=verbose):
        click.echo(line)
    for line in describe_choice(output):
        click.echo(line)
    click.echo(f"reused    {', '.join(reused) if reused else 'nothing'} from the step cache")
    click.echo(f"bundle    {output}   (again: {shlex.join(bundle.command)})")


def describe(bundle: object, *, verbose: bool = False) -> list[str]:
    """The bundle in a few lines: what was done to the graph, what was built, in which state it is."""
    from hwc.artifacts import Bundle

    assert isinstance(bundle, Bundle)
    engine = bundle.engine
    changed = [step for step in bundle.steps if step.rewrites]
    before, after = bundle.steps[0].nodes_before, bundle.steps[-1].nodes_after
    lines = [
        f"model     {bundle.name}: " + ", ".join(f"{s.name} {s.dtype} {_shape(s)}" for s in bundle.inputs),
        f"target    {bundle.target.name} ({bundle.target.title})",
        f"passes    nodes {before} -> {after}: "
        + (", ".join(f"{s.name} {s.rewrites}" for s in changed) or "no change"),
    ]
    if engine.state == "deferred":
        lines.append(
            f"engine    {engine.backend} {engine.key.precision}: deferred, built by the target from model.onnx"
        )
    else:
        precisions = ", ".join(f"{name} {count}" for name, count in engine.precision_built)
        kernels = f"{len(engine.kernels)} kernels ({precisions})"
        if bundle.plain is not None:
            kernels += f", {len(bundle.plain.kernels)} without passes"
        lines.append(f"engine    {engine.key.runtime}, {engine.key.precision}, {engine.state}: {kernels}")
        memory = [f"engine {engine.size_bytes / 1e6:.1f} MB"]
        if engine.activation_bytes is not None:
            memory.append(f"activations {engine.activation_bytes / 1e6:.2f} MB")
        lines.append(f"memory    {', '.join(memory)}")
    for note in (*bundle.notes, *engine.notes) if verbose else bundle.notes:
        lines.append(f"note      {note}")
    return lines


def describe_choice(folder: Path) -> list[str]:
    """One line per recipe that was tried, from the ledger; nothing where no precision was weighed."""
    from hwc.explain import LEDGER, read_ledger

    if not (folder / LEDGER).is_file():
        return []
    attempts = read_ledger(folder).attempts
    return [f"tried     {a.name}: {a.outcome}: {a.reason}" for a in attempts] + [f"why       hwc explain {folder}"]


def _shape(spec: object) -> str:
    from hwc.artifacts import TensorSpec
    from hwc.engines.base import format_shape

    assert isinstance(spec, TensorSpec)
    return format_shape(spec)
