"""The flags of TensorRT's builder, gathered into the engine's options; trtexec's spellings are understood.

`hwc/engines/tensorrt_options.py` says what each means and judges the values. Flags that trtexec users type by habit and
that change nothing here are taken and pass without effect: `hwc compile` never runs inference while it builds, TF32 is
off unless it is asked, and every network has an explicit batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_LEVELS = {"none": "none", "ampere+": "ampere_plus", "samecomputecapability": "same_compute_capability"}
_LEVELS.update({value: value for value in tuple(_LEVELS.values())})

# flag -> (engine option, click's arguments). A value that is a number, a text or a file; files become absolute.
_VALUES: dict[str, tuple[str, dict[str, Any]]] = {
    "--builder-optimization-level": ("builder_optimization_level", {
        "type": click.IntRange(0, 5), "help": "TensorRT: effort of the builder."}),
    "--builds": ("builds", {
        "type": click.IntRange(1, 100), "metavar": "K", "help": "TensorRT: build K times and keep the best."}),
    "--mem-pool-size": ("memory_pools", {
        "metavar": "POOL:SIZE,...", "help": "TensorRT: limits of memory pools, as workspace:512 (MiB) or dlaSRAM:1M."}),
    "--timing-cache": ("timing_cache", {
        "metavar": "FILE|none", "help": "TensorRT: timing cache to read and write instead of the one in --cache-dir."}),
    "--tactic-sources": ("tactic_sources", {
        "metavar": "-NAME,+NAME", "help": "TensorRT: libraries that kernels come from, against its default."}),
    "--hardware-compatibility": ("hardware_compatibility", {
        "metavar": "none|ampere+|sameComputeCapability", "help": "TensorRT: GPUs that the engine shall run on."}),
    "--max-aux-streams": ("max_aux_streams", {
        "type": click.IntRange(min=0), "help": "TensorRT: streams that one inference may use besides its own."}),
    "--use-dla-core": ("dla_core", {
        "type": click.IntRange(min=0), "metavar": "N", "help": "TensorRT: run on this DLA core."}),
    "--extra-profiles": ("extra_profiles", {
        "metavar": "x:MIN/OPT/MAX;...", "help": "TensorRT: more optimization profiles, as x:8x3x224x224."}),
    "--calib": ("calibration_cache", {
        "type": _FILE, "metavar": "FILE", "help": "TensorRT up to 10: INT8 by this calibration cache, without Q/DQ."}),
    "--dynamic-ranges": ("dynamic_ranges", {
        "type": _FILE, "metavar": "FILE", "help": "TensorRT up to 10: INT8 by this quant_table.json, without Q/DQ."}),
    "--static-plugins": ("static_plugins", {
        "type": _FILE, "multiple": True, "metavar": "FILE", "help": "TensorRT: library with operators."}),
    "--dynamic-plugins": ("dynamic_plugins", {
        "type": _FILE, "multiple": True, "metavar": "FILE", "help": "TensorRT: library that travels inside the plan."}),
    "--avg-timing": ("avg_timing_iterations", {"type": click.IntRange(min=1), "hidden": True}),
    "--workspace": ("workspace", {"type": click.IntRange(min=1), "hidden": True}),
    "--sparsity": ("sparsity", {"type": click.Choice(["enable", "disable"]), "hidden": True}),
    "--driver": ("driver", {"type": click.Choice(["auto", "python", "trtexec"]), "hidden": True}),
}  # fmt: skip
# flag -> (engine option, its value, help; none for a spelling of habit)
_SWITCHES = {
    "--gpu-fallback": ("gpu_fallback", "yes", "TensorRT: layers that the DLA cannot run go to the GPU."),
    "--refit": ("refit", "yes", "TensorRT: weights can be replaced later."),
    "--version-compatible": ("version_compatible", "yes", "TensorRT: the engine runs on newer releases of its major."),
    "--allow-tf32": ("allow_tf32", "yes", "TensorRT: 10 bits of mantissa are enough for FP32."),
    "--exclude-lean-runtime": ("exclude_lean_runtime", "yes", ""),
    "--strip-weights": ("strip_plan", "yes", ""),
    "--strongly-typed": ("typing", "strong", ""),
    "--no-tf32": ("", "", ""),
    "--skip-inference": ("", "", ""),
    "--build-only": ("", "", ""),
    "--explicit-batch": ("", "", ""),
}


def builder(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags; the command gets them as one argument, `builder_options`."""

    @functools.wraps(command)
    def collect(**values: Any) -> Any:
        flags = {flag: values.pop(_name(flag)) for flag in (*_VALUES, *_SWITCHES)}
        return command(**values, builder_options=engine_options(flags))

    for flag, (_, _, text) in reversed(_SWITCHES.items()):
        collect = click.option(flag, _name(flag), is_flag=True, hidden=not text, help=text)(collect)
    for flag, (_, how) in reversed(_VALUES.items()):
        collect = click.option(flag, _name(flag), **how)(collect)
    return collect


def engine_options(flags: dict[str, Any]) -> dict[str, str]:
    """The engine's options for those flags; a flag that was not given is None, False or empty."""
    from hwc.errors import UsageError

    options: dict[str, str] = {}
    for flag, (option, _) in _VALUES.items():
        value = flags.get(flag)
        if value is None or value == ():
            continue
        files = value if isinstance(value, tuple) else (value,)
        texts = [str(item.resolve()) if isinstance(item, Path) else str(item) for item in files]
        if isinstance(files[0], Path) and any("," in text for text in texts):
            raise UsageError(f"{flag}: a path with a comma cannot be given", got=", ".join(texts))
        options[option] = ",".join(texts)
    if "workspace" in options:  # trtexec's old spelling, in MiB
        options["workspace_bytes"] = str(int(options.pop("workspace")) << 20)
    if "sparsity" in options:
        options["sparsity"] = "yes" if options["sparsity"] == "enable" else "no"
    level = options.get("hardware_compatibility")
    if level is not None:
        if level.lower() not in _LEVELS:
            raise UsageError("--hardware-compatibility: no such level", expected=", ".join(_LEVELS), got=level)
        options["hardware_compatibility"] = _LEVELS[level.lower()]
    if options.get("timing_cache", "none") != "none":
        options["timing_cache"] = str(Path(options["timing_cache"]).resolve())
    for flag, (option, value, _) in _SWITCHES.items():
        if flags.get(flag) and option:
            options[option] = value
    return options


def precision_with(precision: str, options: dict[str, str]) -> str:
    """The graph's precision where INT8 scales lie beside it: `--int8 --calib` permits INT8 over an FP32 graph."""
    return "fp32" if precision == "int8" and {"calibration_cache", "dynamic_ranges"} & set(options) else precision


def _name(flag: str) -> str:
    return "builder_" + flag[2:].replace("-", "_")
