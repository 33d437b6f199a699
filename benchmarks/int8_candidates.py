"""Makes every quantized file of one network: each peer in a process and an environment of its own, then hwc.

All start from the same FP32 file, the one that hwc itself starts from, and the same calibration samples. A process
has limits of time and memory; one that fails, hangs or dies is a candidate with a problem and not the end of the run.
Finished files are kept in the work folder with the digest of what they were made from, so an interrupted run goes on
where it was; `seconds` is then that of the run that made the file. hwc's own bundle is always made anew.

The time is the wall-clock of the whole process, with the start of its interpreter and its imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.int8_judge import Candidate
from benchmarks.plain import ROOT
from benchmarks.report import put_in_words

PEERS = ("ort", "nncf", "modelopt")
# What the environment of each peer is made from, and the package whose version goes into the report.
REQUIREMENTS = {"nncf": "benchmarks/requirements-int8.txt", "modelopt": "benchmarks/requirements-modelopt.txt"}


@dataclass(frozen=True)
class Limits:
    """For each process: wall-clock seconds, bytes of address space (0: none), threads."""

    seconds: float = 1800.0
    memory_bytes: int = 0
    threads: int = 2


def has_vnni() -> bool:
    """Whether this CPU adds products of bytes in 32 bits; those without saturate at 16 (x86), or are no x86."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return True
    return "avx2" not in flags or any("vnni" in flag or flag == "amx_int8" for flag in flags)


def variants_of(peer: str, model: str, vnni: bool) -> tuple[str, ...]:
    """The recipes of one peer that are worth a row: its defaults, and what its documentation advises here."""
    if peer == "modelopt":
        return ("max", "entropy")
    if peer == "ort":
        methods = ("minmax", "entropy", "percentile")
        return methods if vnni else (*methods, *(f"{method}-7bit" for method in methods), "minmax-u8-7bit")
    if model == "minilm":
        words = ("default", "transformer", "transformer-mixed", "transformer-control")
    else:
        words = ("default", "onnx", "bias", "control")
    # Where bytes saturate, its documentation offers the fix, so each recipe that may gain by it has a row with it.
    return (
        words if vnni else (*words, *(f"{word}-overflow".removeprefix("default-") for word in words if word != "onnx"))
    )


def run_limited(command: Sequence[str], limits: Limits, log: Path) -> tuple[float, str]:
    """Seconds of a process, and what went wrong with it ('' if nothing did); its words go to `log`.

    The process and its children form a group that ends with it.
    """

    def limit() -> None:
        if limits.memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))

    count = str(limits.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(ROOT)
    started = time.monotonic()
    with open(log, "wb") as words:
        child = subprocess.Popen(
            command, stdout=words, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, preexec_fn=limit,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(timeout=limits.seconds)
            late = False
        except subprocess.TimeoutExpired:
            late, code = True, -signal.SIGKILL
        finally:
            # Also on an interrupt or SIGTERM of this program: a peer that goes on would fight the next run for the CPU.
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    seconds = time.monotonic() - started
    if late:
        return seconds, f"stopped after {limits.seconds:.0f} s"
    if code == 0:
        return seconds, ""
    said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return seconds, put_in_words(RuntimeError(f"{how}: {said[-1] if said else 'no word'}")).partition(": ")[2]


def make_peer(
    peer: str, variant: str, python: Path, model: Path, samples: Path, work: Path, limits: Limits
) -> Candidate:
    """One quantized file, from the work folder if it was made of the same bytes before."""
    name = peer if variant == "default" else f"{peer}-{variant}"
    out = work / f"{name}{'.xml' if peer == 'nncf' and variant != 'onnx' else '.onnx'}"
    stamp, digest = work / f"{name}.json", _digest(model, samples)
    try:
        kept = json.loads(stamp.read_text())
        if kept["digest"] == digest and out.is_file():
            return Candidate(name, str(out), kept["seconds"])
    except (OSError, ValueError, KeyError):
        pass  # nothing whole is kept, so it is made
    if not python.is_file():
        return Candidate(name, problem=f"no environment for {peer}: make one of {REQUIREMENTS.get(peer, '')}")
    for left in work.glob(f"{name}.*"):
        left.unlink()
    command = [str(python), "-m", f"benchmarks.int8_peer_{peer}", str(model), str(samples), str(out), variant]
    seconds, problem = run_limited(command, limits, work / f"{name}.log")
    if problem or not out.is_file():
        return Candidate(name, seconds=seconds, problem=problem or "ended well but wrote no file")
    stamp.write_text(json.dumps({"digest": digest, "seconds": seconds}))
    return Candidate(name, str(out), seconds)


def make_hwc(model: str, flags: Sequence[str], work: Path, limits: Limits, name: str = "hwc") -> Candidate:
    """The bundle of `hwc compile MODEL --target cpu` with these flags, by its public command."""
    out = work / name
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "hwc", "compile", model, "--target", "cpu", *flags, "-o", str(out)]
    seconds, problem = run_limited(command, limits, work / f"{name}.log")
    return Candidate(name, "" if problem else str(out), seconds, problem)


def _digest(*paths: Path) -> str:
    state = hashlib.sha256()
    for path in paths:
        for file in (path, path.with_name(f"{path.name}.data")):
            if file.is_file():
                with open(file, "rb") as stream:
                    while block := stream.read(1 << 20):
                        state.update(block)
    return state.hexdigest()
