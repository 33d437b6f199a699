"""Asks this machine what it is. With `probe_board`, the only place of `hwc` that does; all else is told by a Target.

`probe` reads what is written down somewhere (the device tree, nv_tegra_release, nvidia-smi, package metadata) and loads
no runtime: importing TensorRT or OpenVINO to learn a version would cost seconds and may crash. `probe_cpu` reads
/proc and /sys too, and measures two numbers, each in under 0.3 s:

    cpu.fp32_gflops        best of several n x n float32 products, 2 n^3 operations each, through numpy's BLAS
    memory.bandwidth_gb_s  best of several copies of arrays larger than the last cache, one slice per core;
                           a byte copied counts twice, once read and once written (STREAM's convention)

Limit: both are what this process got at that moment, lower on a busy machine or with a slow BLAS; they are rooflines
for estimates, not results. What cannot be read is left out (`probe`) or unknown (`probe_cpu`): never a default.
Sources: L4T and device-tree names as in rbonghi/jetson_stats jetson_variables.py; cgroup files as in the Linux kernel's
admin guide. Every path hangs below `root`, so that tests can bring a machine of their own.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Dict, Optional, Tuple

from hwc.artifacts import Fact, Value
from hwc.targets.compare_machine import Difference, compare, with_probed
from hwc.targets.measure_cpu import measure_copy, measure_sgemm
from hwc.targets.probe_board import Run, commands_below, probe_board, run_command
from hwc.targets.required_facts import CPU_FACTS

__all__ = ["Difference", "compare", "probe", "probe_cpu", "run_command", "with_probed"]

Facts = Dict[str, Fact]

# Fact name -> distributions that carry it; the first that is installed answers.
RUNTIMES: Dict[str, Tuple[str, ...]] = {
    "software.numpy": ("numpy",),
    "software.onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "software.openvino": ("openvino",),
    "software.pycuda": ("pycuda",),
    "software.tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
    "software.tensorrt_rtx": ("tensorrt-rtx-cu12", "tensorrt-rtx-cu13", "tensorrt-rtx"),
    "software.torch": ("torch",),
}

# cpuinfo spelling -> the name that cpu.isa uses. x86 says "flags", Arm says "Features".
ISA_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
    "avx512_bf16": "bf16",
    "amx_bf16": "amx",
    "amx_int8": "amx",
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}

# Fact name -> (what to ask nvidia-smi for, unit). Only what must equal the target's fact has a `gpu.` name: a driver's
# clock and power limits are settings of this machine, not figures of the data sheet.
SMI_FIELDS = {
    "gpu.name": ("name", "name"),
    "gpu.compute_capability": ("compute_cap", "version"),
    "memory.size_gb": ("memory.total", "GB"),
    "machine.gpu_clock_max_mhz": ("clocks.max.sm", "MHz"),
    "machine.gpu_driver": ("driver_version", "version"),
    "machine.gpu_power_limit_w": ("power.limit", "W"),
}


def probe(root: Path = Path("/"), *, run: Optional[Run] = None) -> Facts:
    """What this machine is: only the facts that were seen, in the names and units of the target files.

    Args:
        root: folder that stands for "/".
        run: runs a command and gives its output or None; without it, the commands of that root.
    """
    run = run or commands_below(root)
    facts = {"software.python": Fact(platform.python_version(), "version", "the Python that runs hwc")}
    if root == Path("/"):
        facts["machine.os"] = Fact(platform.platform(), "name", "Python's platform.platform() on this machine")
        facts["machine.architecture"] = Fact(platform.machine(), "name", "Python's platform.machine() on this machine")
    elif (run(["uname", "-m"]) or "").strip():
        facts["machine.architecture"] = Fact((run(["uname", "-m"]) or "").strip(), "name", "uname -m")
    memory = _read_memory_gb(root)
    if memory is not None:
        facts["machine.memory_gb"] = memory
        facts["machine.memory_bytes"] = Fact(_read_memory_bytes(root)[0], "bytes", memory.source)
    facts.update(_probe_jetson(root, run))
    if memory is not None and "jetson.soc" in facts:
        facts["memory.size_gb"] = memory  # one memory for CPU and GPU; on a PC the card has its own
    facts.update(_probe_nvidia_smi(run))
    facts.update(probe_board(root, run))  # last: what the driver shows a process counts, and a mode may hide SMs
    for name, distributions in RUNTIMES.items():
        for distribution in distributions:
            try:
                version = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
            facts[name] = Fact(version, "version", f"installed metadata of the package {distribution}")
            break
    library = facts.get("software.libnvinfer")
    if library is not None:
        facts.setdefault("software.tensorrt", library)  # the library without Python bindings is a TensorRT too
    return facts


def probe_cpu(root: Path = Path("/"), *, is_measured: bool = True) -> Facts:
    """Every fact of the target "cpu", read or measured here; None where this machine does not say.

    Args:
        root: folder that stands for "/".
        is_measured: also time a matrix product and a copy (about 0.5 s in all); otherwise both are unknown.
    """
    info = _read_text(root / "proc/cpuinfo") or ""
    flags = set((_find(r"^(?:flags|Features)\s*:\s*(.*)$", info) or "").split())
    cores = _count_cores(root)
    caches = _read_caches_kib(root)
    values: Dict[str, Tuple[Value, str]] = {
        "cpu.model": (_find(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", info), "/proc/cpuinfo, model name"),
        "cpu.architecture": (platform.machine() or None, "Python's platform.machine() on this machine"),
        "cpu.isa": (
            tuple(sorted({ISA_FLAGS[flag] for flag in flags if flag in ISA_FLAGS})) or None,
            "/proc/cpuinfo, flags",
        ),
        "cpu.cores": (cores, "the CPUs this process may use: its affinity, cut to the quota of its cgroup"),
        "cpu.clock_mhz": _read_clock_mhz(root, info),
        "cpu.container": (_is_container(root), "/.dockerenv, /run/.containerenv or /proc/1/cgroup"),
        "cpu.virtualized": ("hypervisor" in flags if flags else None, "/proc/cpuinfo, the flag 'hypervisor'"),
        "cpu.cache_l1d_kib": (caches.get("1Data"), "/sys/devices/system/cpu/cpu0/cache"),
        "cpu.cache_l2_kib": (caches.get("2Unified"), "/sys/devices/system/cpu/cpu0/cache"),
        "cpu.cache_l3_kib": (caches.get("3Unified"), "/sys/devices/system/cpu/cpu0/cache"),
    }
    if is_measured:
        values["cpu.fp32_gflops"] = measure_sgemm(cores)
        values["memory.bandwidth_gb_s"] = measure_copy(cores, int(caches.get("3Unified", 0)) * 1024)
    else:
        for name in ("cpu.fp32_gflops", "memory.bandwidth_gb_s"):
            values[name] = (None, "not measured: probe_cpu was asked only to read")
    facts = {name: Fact(value, CPU_FACTS[name], source) for name, (value, source) in values.items()}
    memory = _read_memory_gb(root)
    facts["memory.size_gb"] = memory or Fact(None, "GB", "no /proc/meminfo on this machine")
    return facts


def _probe_jetson(root: Path, run: Run) -> Facts:
    facts: Facts = {}
    # Device-tree strings end in a NUL, and `compatible` is a list of them.
    model = (_read_text(root / "proc/device-tree/model") or "").strip("\x00 \n")
    compatible = _read_text(root / "proc/device-tree/compatible") or ""
    soc = _find(r"nvidia,(tegra\d+)", compatible)
    if soc is None:
        return facts
    facts["jetson.model"] = Fact(model or None, "name", "/proc/device-tree/model")
    facts["jetson.soc"] = Fact(soc, "name", "/proc/device-tree/compatible")
    parts = tuple(sorted(set(re.findall(r"p\d{4}(?:-\d{4})?", compatible))))
    facts["jetson.module_part_numbers"] = Fact(parts or None, "names", "/proc/device-tree/compatible")
    release = re.search(
        r"^# R(\d+) \(release\), REVISION: ([\d.]+)", _read_text(root / "etc/nv_tegra_release") or "", re.MULTILINE
    )
    if release:
        facts["software.l4t"] = Fact(f"{release[1]}.{release[2]}", "version", "/etc/nv_tegra_release")
    mode = _find(r"^NV Power Mode:\s*(\S.*)$", run(["nvpmodel", "-q"]) or "")
    if mode:
        facts["jetson.power_mode"] = Fact(mode, "name", "nvpmodel -q")
    return facts


def _probe_nvidia_smi(run: Run) -> Facts:
    query = ",".join(field for field, _ in SMI_FIELDS.values())
    output = run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"])
    rows = [line for line in (output or "").splitlines() if line.count(",") == len(SMI_FIELDS) - 1]
    if not rows:
        return {}
    source = "nvidia-smi, the first GPU's {}"
    facts = {"machine.gpu_count": Fact(len(rows), "count", "nvidia-smi, one row per GPU")}
    for (name, (field, unit)), text in zip(SMI_FIELDS.items(), rows[0].split(",")):
        text = text.strip()
        # Integrated GPUs answer "[N/A]" or "[Not Supported]" to most questions.
        if not text or text.startswith("["):
            continue
        value: Value = float(text) if unit in ("GB", "MHz", "W") else text
        if unit == "GB":
            value = round(float(text) / 1024, 2)  # printed in MiB
        facts[name] = Fact(value, unit, source.format(field))
    return facts


def _count_cores(root: Path) -> int:
    """CPUs that this process may use, at least 1. A quota of 1.5 CPUs keeps two threads busy, so it is rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity and root == Path("/") else _count_listed(root)
    quotas = []
    version2 = (_read_text(root / "sys/fs/cgroup/cpu.max") or "").split()
    if len(version2) == 2 and version2[0] != "max":
        quotas.append(float(version2[0]) / float(version2[1]))
    quota, period = (_read_text(root / f"sys/fs/cgroup/cpu/cpu.cfs_{name}_us") or "-1" for name in ("quota", "period"))
    if float(quota) > 0 and float(period) > 0:
        quotas.append(float(quota) / float(period))
    return max(1, min([allowed, *(int(-(-quota // 1)) for quota in quotas)]))


def _count_listed(root: Path) -> int:
    return len(re.findall(r"^processor\s*:", _read_text(root / "proc/cpuinfo") or "", re.MULTILINE)) or (
        os.cpu_count() or 1
    )


def _read_clock_mhz(root: Path, info: str) -> Tuple[Value, str]:
    highest = _read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    if highest and highest.strip().isdigit():
        return int(highest) / 1000.0, "cpufreq/cpuinfo_max_freq of CPU 0"
    now = _find(r"^cpu MHz\s*:\s*([\d.]+)", info)
    if now:
        return float(now), "/proc/cpuinfo, the clock at the moment of reading (no cpufreq here)"
    return None, "neither cpufreq nor /proc/cpuinfo states a clock"


def _read_caches_kib(root: Path) -> Dict[str, int]:
    """Cache sizes that CPU 0 sees, keyed by level and type: "1Data", "2Unified", "3Unified"."""
    sizes: Dict[str, int] = {}
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((_read_text(index / part) or "").strip() for part in ("level", "type", "size"))
        match = re.match(r"^(\d+)([KM])$", size)
        if match:
            sizes[level + kind] = int(match[1]) * (1024 if match[2] == "M" else 1)
    return sizes


def _read_memory_gb(root: Path) -> Optional[Fact]:
    size_bytes, source = _read_memory_bytes(root)
    # Modules are sold in units of 2^30 bytes ("32 GB"), so that is the unit that can be compared.
    return Fact(round(size_bytes / 2**30, 2), "GB", source, "in units of 2^30 bytes") if size_bytes else None


def _read_memory_bytes(root: Path) -> Tuple[int, str]:
    total = _find(r"^MemTotal:\s*(\d+) kB", _read_text(root / "proc/meminfo") or "")
    size_bytes, source = int(total or 0) * 1024, "/proc/meminfo, MemTotal"
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = (_read_text(root / "sys/fs/cgroup" / name) or "").strip()
        if limit.isdigit() and int(limit) < size_bytes:
            size_bytes, source = int(limit), f"the limit of this process's cgroup, {name}"
    return size_bytes, source


def _is_container(root: Path) -> bool:
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    return bool(re.search(r"docker|kubepods|containerd|lxc", _read_text(root / "proc/1/cgroup") or ""))


def _find(pattern: str, text: str) -> Optional[str]:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else None


def _read_text(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
