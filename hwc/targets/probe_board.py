"""What `probe` asks a board beyond its name: the CUDA device, packages, clocks, memory to the byte, the host's name.

    jetson.clocks_locked   every GPU clock domain that devfreq lists has min_freq = max_freq, which is what
                           `jetson_clocks` sets; no domain listed means not known
    software.cuda          /usr/local/cuda/version.json, else the newest that the driver serves
    software.jetpack       dpkg's status file, package nvidia-jetpack (images without that meta-package do not say)
    software.libnvinfer    dpkg's status file, the TensorRT library; Python bindings come in a package of their own
    software.tensorrt      only where Python finds the module and no package metadata: what the module says, in a
                           process apart, because importing it may crash

Every path and every command hangs below `root`: for "/" they are this machine's; for any other folder a command is run
only if it lies in one of that folder's own `bin` folders, so that a test's board never answers with what this machine
is. Sources: devfreq paths and package names as in rbonghi/jetson_stats; NVIDIA's JetPack archive for package names.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import pkgutil
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence

from hwc.artifacts import Fact, Value

Run = Callable[[Sequence[str]], Optional[str]]
_BIN_FOLDERS = ("usr/local/bin", "usr/local/sbin", "usr/bin", "usr/sbin", "bin", "sbin")
_GPU_DOMAINS = re.compile(r"gv11b|ga10b|gp10b|gm20b|gb10b|\.gpu$|^gpu-gpc")
_VERSION = re.compile(r"^\d+(\.\d+)+")


def run_command(command: Sequence[str]) -> Optional[str]:
    """The command's standard output, or None where it is missing, fails, or takes more than 5 s."""
    try:
        done = subprocess.run(list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                              universal_newlines=True, timeout=5, check=True)  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout


def commands_below(root: Path) -> Run:
    """How to run a command of the machine whose "/" is `root`."""
    if root == Path("/"):
        return run_command

    def run(command: Sequence[str]) -> Optional[str]:
        name = "python3" if command[0] == sys.executable else command[0]
        places = [root / folder / name for folder in _BIN_FOLDERS]
        return next((run_command([str(place), *command[1:]]) for place in places if place.is_file()), None)

    return run


def probe_board(root: Path, run: Run) -> Dict[str, Fact]:
    """The facts above that this machine gives; what it does not say is left out."""
    facts: Dict[str, Fact] = {}
    name = platform.node() if root == Path("/") else read_text(root / "etc/hostname").strip()
    _add(facts, "machine.hostname", name or None, "name", "the machine's host name")
    _add(facts, "jetson.clocks_locked", _read_locked(root), "yes/no", "/sys/class/devfreq, min_freq and max_freq")
    _add_packages(facts, root)
    _add(facts, "software.tensorrt", _ask_module("tensorrt", run), "version", "what the module says of itself")
    cuda = _ask_cuda(run)
    source = "the CUDA driver, device 0"
    _add(facts, "gpu.name", cuda.get("name"), "name", source)
    _add(facts, "gpu.compute_capability", cuda.get("compute_capability"), "version", source)
    _add(facts, "gpu.sm_count", cuda.get("sm_count"), "count", source)
    _add(facts, "machine.gpu_memory_bytes", cuda.get("memory_bytes"), "bytes", source)
    toolkit = _read_toolkit(root)
    _add(facts, "software.cuda", toolkit, "version", "/usr/local/cuda/version.json")
    if toolkit is None:
        _add(facts, "software.cuda", cuda.get("driver_cuda"), "version", "the newest CUDA that the driver serves")
    return facts


def _add(facts: Dict[str, Fact], name: str, value: Value, unit: str, source: str) -> None:
    if value is not None:
        facts[name] = Fact(value, unit, source)


def _ask_cuda(run: Run) -> Dict[str, Value]:
    script = pkgutil.get_data("hwc.targets", "ask_cuda.py")
    assert script is not None
    try:
        answer = json.loads(run([sys.executable, "-c", script.decode("utf-8")]) or "{}")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _ask_module(name: str, run: Run) -> Optional[str]:
    """The version that a module says of itself, where it can be found but no package of that name is installed."""
    try:
        importlib.metadata.version(name)
        return None
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        if importlib.util.find_spec(name) is None:
            return None
    except (ImportError, ValueError):  # a finder that refuses, or a module that was put there without a spec
        return None
    said = (run([sys.executable, "-c", f"import {name}; print({name}.__version__)"]) or "").strip()
    return said if _VERSION.match(said) else None


def _read_locked(root: Path) -> Optional[bool]:
    """Whether all GPU clock domains are held at one frequency; None where none is listed."""
    pairs = [
        (read_text(folder / "min_freq").strip(), read_text(folder / "max_freq").strip())
        for folder in sorted((root / "sys/class/devfreq").glob("*"))
        if _GPU_DOMAINS.search(folder.name)
    ]
    known = [(low, high) for low, high in pairs if low.isdigit() and high.isdigit()]
    return all(low == high for low, high in known) if known else None


def _read_toolkit(root: Path) -> Optional[str]:
    try:
        version = json.loads(read_text(root / "usr/local/cuda/version.json"))["cuda"]["version"]
    except (ValueError, LookupError, TypeError):
        return None
    return version if isinstance(version, str) and _VERSION.match(version) else None


def _add_packages(facts: Dict[str, Fact], root: Path) -> None:
    """Versions from dpkg's own file: asking dpkg would cost a process and a lock."""
    status = read_text(root / "var/lib/dpkg/status")
    for fact, package in (("software.jetpack", r"nvidia-jetpack"), ("software.libnvinfer", r"libnvinfer\d+")):
        for stanza in re.finditer(rf"^Package: ({package})\n(?:.+\n)*?Version: (\S+)", status, re.MULTILINE):
            version = _VERSION.match(stanza[2].split(":")[-1])
            if version:
                _add(facts, fact, version[0], "version", f"dpkg's status file, package {stanza[1]}")
                break


def read_text(path: Path) -> str:
    """The file's text; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
