"""What a TensorRT build may be asked for, read from NAME=VALUE texts into one typed value.

The texts travel in `BuildRequest.options`, in engine.request.json and in the BuildKey, so all forms are short and name
no machine's folders, except files, which are copied beside the model and then named relative to it.

    typing=strong|weak              weak where the graph is FP32 and only flags can ask for a narrower type
    memory_pools=POOL:SIZE,...      POOL workspace, dla_sram, dla_local_dram, dla_global_dram, tactic_dram,
                                    tactic_shared_memory; SIZE a number with B, K, M or G (powers of 1024; M if none,
                                    as trtexec counts); trtexec's names dlaSRAM, tacticSharedMem, ... are taken too
    workspace_bytes=N               the same as memory_pools=workspace:NB
    tactic_sources=-CUDNN,+CUBLAS   changes of TensorRT's own default
    extra_profiles=PROFILE;...      more optimization profiles after the first; PROFILE is x:MINxOPTxMAX as
                                    `x:1x3x8x8/2x3x8x8/4x3x8x8,y:...`, one size for all three as `x:8x3x8x8`
    calibration_cache=FILE, dynamic_ranges=FILE    INT8 without Q/DQ, up to TensorRT 10
    dla_plan=FILE                   which layers run on dla_core (hwc/artifacts_dla.py); without it, all that may
    timing_cache=FILE|none          read and written instead of the one in the cache folder; not part of the BuildKey
    static_plugins=FILE,..., dynamic_plugins=FILE,...    libraries with operators; dynamic ones go into the plan
    builds=K                        build K times and keep the best
    driver=auto|python|trtexec      which program builds; auto takes trtexec where the Python module is missing

DLA pools are powers of two of at least 4 KiB, per loadable; sources: NvInfer.h of TensorRT 10.16 and
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/dla-memory-pools.html.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Tuple

from hwc.errors import UsageError

Shape = Tuple[int, ...]
Profile = Dict[str, Tuple[Shape, Shape, Shape]]  # input -> (min, opt, max)

PLACES = ("timing_cache", "builds", "driver")  # how a build is done, not what it is: left out of engine.request.json
# Ours -> (the name in trt.MemoryPoolType, trtexec's name; empty where trtexec has no such pool)
POOLS: Dict[str, Tuple[str, str]] = {
    "workspace": ("WORKSPACE", "workspace"),
    "dla_sram": ("DLA_MANAGED_SRAM", "dlaSRAM"),
    "dla_local_dram": ("DLA_LOCAL_DRAM", "dlaLocalDRAM"),
    "dla_global_dram": ("DLA_GLOBAL_DRAM", "dlaGlobalDRAM"),
    "tactic_dram": ("TACTIC_DRAM", ""),
    "tactic_shared_memory": ("TACTIC_SHARED_MEMORY", "tacticSharedMem"),
}
_POOL_NAMES = {**{name: name for name in POOLS}, **{trtexec: name for name, (_, trtexec) in POOLS.items() if trtexec}}
_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LEAST_DLA_BYTES = 4096

FLAGS = {  # yes/no option -> the flag of trt.BuilderFlag that it sets
    "gpu_fallback": "GPU_FALLBACK",
    "version_compatible": "VERSION_COMPATIBLE",
    "exclude_lean_runtime": "EXCLUDE_LEAN_RUNTIME",
    "refit": "REFIT",
    "strip_plan": "STRIP_PLAN",
    "sparsity": "SPARSE_WEIGHTS",
}
YES_NO = ("allow_tf32", "allow_int8_convolution", *FLAGS)
NUMBERS = ("workspace_bytes", "builder_optimization_level", "max_aux_streams", "avg_timing_iterations", "dla_core",
           "builds")  # fmt: skip
WORDS = {
    "typing": ("strong", "weak"),
    "driver": ("auto", "python", "trtexec"),
    "hardware_compatibility": ("none", "ampere_plus", "same_compute_capability"),
}
FILES = ("calibration_cache", "dynamic_ranges", "dla_plan", "static_plugins", "dynamic_plugins")
TEXTS = ("memory_pools", "tactic_sources", "extra_profiles", "timing_cache", *FILES)
_SMALLEST = {"builds": 1, "avg_timing_iterations": 1}
_LARGEST = {"builder_optimization_level": 5, "builds": 100}


@dataclass(frozen=True)
class Options:
    """All options of one build. Numbers are None and texts empty where nothing was asked. Sizes in bytes."""

    flags: Tuple[str, ...] = ()
    allow_tf32: bool = False
    allow_int8_convolution: bool = False
    typing: str = ""
    driver: str = "auto"
    hardware_compatibility: str = ""
    numbers: Tuple[Tuple[str, int], ...] = ()
    pools: Tuple[Tuple[str, int], ...] = ()
    tactic_sources: Tuple[Tuple[str, bool], ...] = ()
    extra_profiles: Tuple[Profile, ...] = ()
    files: Tuple[Tuple[str, Tuple[str, ...]], ...] = ()

    def number(self, name: str, default: int = -1) -> int:
        """The value of that numeric option, `default` where it was not asked."""
        return dict(self.numbers).get(name, default)

    def has_flag(self, name: str) -> bool:
        """Whether that yes/no option of `FLAGS` was asked."""
        return name in self.flags

    def named(self, option: str) -> Tuple[str, ...]:
        """The files of that option."""
        return dict(self.files).get(option, ())

    @property
    def has_calibration(self) -> bool:
        """Whether INT8 comes from scales beside the graph and not from Q/DQ inside it."""
        return bool(self.named("calibration_cache") or self.named("dynamic_ranges"))


def read_options(options: Mapping[str, str]) -> Options:
    """The options of one build.

    Raises:
        UsageError: an unknown name, a value that cannot be read, or two that exclude each other.
    """
    _check_words(options)
    numbers = {name: int(options[name]) for name in NUMBERS if name in options}
    pools = _read_pools(options.get("memory_pools", ""))
    if "workspace_bytes" in numbers:
        if pools.setdefault("workspace", numbers["workspace_bytes"]) != numbers["workspace_bytes"]:
            raise UsageError("the workspace is given twice", got=f"{options['memory_pools']}, workspace_bytes")
        del numbers["workspace_bytes"]
    files = {name: tuple(part for part in options[name].split(",") if part) for name in FILES if name in options}
    if len(files.get("calibration_cache", ())) > 1 or len(files.get("dynamic_ranges", ())) > 1:
        raise UsageError("INT8 scales come from one file", got=repr(files))
    if "dla_plan" in files and (len(files["dla_plan"]) > 1 or "dla_core" not in options):
        raise UsageError("a DLA plan is one file, for one DLA core", do="give dla_core=0 with it")
    if "calibration_cache" in files and "dynamic_ranges" in files:
        raise UsageError("INT8 scales come from a calibration cache or from dynamic ranges, not from both")
    if "gpu_fallback" in options and "dla_core" not in options:
        raise UsageError("gpu_fallback is for layers that the DLA cannot run", do="give dla_core=0 with it")
    return Options(
        flags=tuple(name for name in FLAGS if options.get(name) == "yes"),
        allow_tf32=options.get("allow_tf32") == "yes",
        allow_int8_convolution=options.get("allow_int8_convolution") == "yes",
        typing=options.get("typing", ""),
        driver=options.get("driver", "auto"),
        hardware_compatibility=options.get("hardware_compatibility", ""),
        numbers=tuple(sorted(numbers.items())),
        pools=tuple(pools.items()),
        tactic_sources=_read_sources(options.get("tactic_sources", "")),
        extra_profiles=tuple(_read_profile(text) for text in options.get("extra_profiles", "").split(";") if text),
        files=tuple(sorted(files.items())),
    )


def key_parts(options: Mapping[str, str], folder: Path) -> Tuple[Tuple[Tuple[str, str], ...], Tuple[str, ...]]:
    """(options, plugins) of a BuildKey: what a file holds counts, not where it lies, and neither does how it is built.

    Args:
        folder: what file names are relative to.

    Raises:
        UsageError: a file cannot be read.
    """
    kept: Dict[str, str] = {}
    plugins: List[str] = []
    for name, value in options.items():
        if name in ("timing_cache", "driver"):
            continue
        if name in FILES:
            digests = [_file_digest(folder / file) for file in value.split(",") if file]
            plugins += digests if name.endswith("_plugins") else []
            value = ",".join(digests)
        kept[name] = value
    return tuple(sorted(kept.items())), tuple(plugins)


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UsageError("a file of the build cannot be read", where=str(path), got=str(error.strerror)) from None


def _check_words(options: Mapping[str, str]) -> None:
    unknown = sorted(set(options) - {*WORDS, *YES_NO, *NUMBERS, *TEXTS})
    wrong: List[str] = []
    for name, value in sorted(options.items()):
        if name in NUMBERS:
            fits = value.isdigit() and _SMALLEST.get(name, 0) <= int(value) <= _LARGEST.get(name, int(value))
        else:
            fits = name in TEXTS or value in (WORDS.get(name) or ("yes", "no"))
        if not fits:
            wrong.append(f"{name}={value}")
    if unknown or wrong:
        words = ", ".join(f"{name}={'|'.join(values)}" for name, values in WORDS.items())
        raise UsageError(
            "the tensorrt engine has no such option",
            expected=f"{words}, {'|'.join(YES_NO)}=yes|no, {'|'.join(NUMBERS)}=<number>, {'|'.join(TEXTS)}=<text>",
            got=", ".join(unknown + wrong),
        )


def _read_pools(text: str) -> Dict[str, int]:
    pools: Dict[str, int] = {}
    for piece in (part for part in text.split(",") if part):
        name, _, size = piece.partition(":")
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:(B)|([KMG])(?:i?B)?)?", size)
        if name not in _POOL_NAMES or found is None:
            raise UsageError(
                "a memory pool cannot be read",
                expected="POOL:SIZE with POOL one of " + ", ".join(POOLS) + " and SIZE as 512, 512M, 64K or 1G",
                got=piece,
            )
        number = int(float(found.group(1)) * _UNITS[found.group(2) or found.group(3) or "M"])
        pool = _POOL_NAMES[name]
        if pool in pools:
            raise UsageError("a memory pool is given twice", got=text)
        # trtexec rounds down without a word; a limit that differs from what was asked is not what was asked.
        if pool.startswith("dla_") and (number < _LEAST_DLA_BYTES or number & (number - 1)):
            raise UsageError(
                f"the pool {pool} must be a power of two of at least {_LEAST_DLA_BYTES} bytes",
                got=f"{number} bytes",
                source="https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/dla-memory-pools.html",
            )
        pools[pool] = number
    return pools


def _read_sources(text: str) -> Tuple[Tuple[str, bool], ...]:
    pieces = [part for part in text.split(",") if part]
    for piece in pieces:
        if piece[0] not in "+-" or not re.fullmatch(r"[A-Z_]+", piece[1:]):
            raise UsageError("a tactic source cannot be read", expected="+NAME or -NAME, as in -CUDNN", got=piece)
    return tuple((piece[1:], piece[0] == "+") for piece in pieces)


def _read_profile(text: str) -> Profile:
    profile: Profile = {}
    # A comma parts inputs only where a name and a colon follow it; names may hold commas no more than trtexec's.
    for piece in re.split(r",(?=[^,]*:)", text):
        name, _, shapes = piece.rpartition(":")
        sizes = [part.split("x") for part in shapes.split("/")]
        is_read = name and len(sizes) in (1, 3) and all(dim.isdigit() and int(dim) for part in sizes for dim in part)
        triple = [tuple(int(dim) for dim in part) for part in sizes] if is_read else []
        low, best, high = triple * 3 if len(triple) == 1 else triple or [(), (), ()]
        fits = len(low) == len(best) == len(high) and all(a <= b <= c for a, b, c in zip(low, best, high))
        if not is_read or not fits or name in profile:
            raise UsageError(
                "an optimization profile cannot be read",
                expected="input:MIN/OPT/MAX with MIN <= OPT <= MAX, as x:1x3x8x8/2x3x8x8/4x3x8x8, each input once",
                got=piece,
            )
        profile[name] = (low, best, high)
    return profile
