"""What became of each board, in words."""

from __future__ import annotations

import json
from typing import Any

from hwc.artifacts import Profile
from hwc.errors import UsageError
from hwc.remote.copy_bundle import show_bytes
from hwc.remote.host_result import HostResult
from hwc.remote.ssh_errors import plain
from hwc.serialize import from_json

_MACHINE = (("gpu", ""), ("jetpack", "JetPack "), ("l4t", "L4T "), ("tensorrt", "TensorRT "), ("cuda", "CUDA "),
            ("power_mode", "power mode "))  # fmt: skip


def format_result(result: HostResult, *, with_error: bool = True) -> str:
    """One board: what it is, what was done in how long, what is left to know, and its error if there is one."""
    seconds = {step.name: step.seconds for step in result.steps}
    name = result.host if result.host == result.address else f"{result.host} ({result.address})"
    lines = [f"{name}: {'failed' if result.error else 'planned' if result.plan else 'done'}"]
    if result.machine is not None:
        known = [f"{word}{result.machine[key]}" for key, word in _MACHINE if result.machine.get(key)]
        lines.append(_line("board", plain(", ".join(known)) or "says nothing about itself"))
    lines += [_line("would", text) for text in result.plan]
    if "copy" in seconds:
        text = f"{show_bytes(result.sent_bytes)} sent, {show_bytes(result.reused_bytes)} were there; {result.folder}"
        lines.append(_line("copy", text, seconds["copy"]))
    if result.power is not None:
        after = result.power["restored"] and f", restored to {result.power['restored']}"
        text = f"{result.power['mode'] or 'not set'}, before that {result.power['former']}{after}"
        lines.append(_line("power", plain(text)))
    if result.build is not None:
        lines.append(_line("build", plain(_build(result.build)), seconds.get("build")))
    if result.profile is not None:
        lines.append(_line("profile", plain(_profile(result.profile)), seconds.get("profile")))
    lines += [_line("note", note) for note in result.notes]
    if result.error is not None and with_error:
        lines += [f"  {line}" for line in str(result.error).splitlines()]
    return "\n".join(lines)


def _build(build: dict[str, Any]) -> str:
    how = "reused" if build.get("reused") else f"built in {float(build.get('build_seconds') or 0):.1f} s"
    kernels = build.get("kernels")
    count = len(kernels) if isinstance(kernels, list) else kernels
    size = show_bytes(int(build.get("size_bytes") or 0))
    return f"engine {how}, {count} kernels, {size}, {build.get('state')}; {build.get('engine_dir')}"


def _profile(report: dict[str, Any]) -> str:
    """The first of the profiles that the board measured, in trtexec's order of figures."""
    try:
        found = from_json(Profile, json.dumps(report["profiles"][0]))
    except (UsageError, LookupError, TypeError) as error:
        return f"the report is not one of this version of hwc ({type(error).__name__}); -o FILE keeps it"
    return (
        f"{found.throughput_qps:.1f} qps, latency mean {found.mean_ms:.3f} ms, median {found.p50_ms:.3f} ms, "
        f"p95 {found.p95_ms:.3f} ms, p99 {found.p99_ms:.3f} ms over {len(found.latency_ns)} runs"
    )


def _line(label: str, text: str, seconds: float | None = None) -> str:
    return f"  {label:<8} {text}" + ("" if seconds is None else f"  [{seconds:.1f} s]")
