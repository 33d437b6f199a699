"""The tables of benchmarks/results/memory.md."""

from __future__ import annotations

from typing import Any

from benchmarks.report import format_table

HEAD = """\
# Memory plans

A plan gives each buffer an offset so that no two buffers alive at once share a byte. The bound is the most bytes alive
at once; no plan is smaller. Every plan here was accepted by `hwc/memory/check.py`, which shares no code with the
planners.

## Hard problems

Seven of the instances of google/minimalloc (benchmarks/minimalloc), each in a process of its own. "Best greedy" is the
lowest of ten heuristics (five orders, best and first fit). "MiniMalloc" is the time on its authors' slides (ASPLOS
2024, slide 22), on hardware that they do not state, so the two times are no race. Solved means a plan within the
capacity; in all but C and D that is a perfect packing at the bound.
"""
NETWORKS = """\

## Networks

Activations in FP32, batch 1, alignment 1, inputs included, weights and kernels' own workspace left out; optimized by
hwc's passes for the CPU and planned by fusion group, except those marked *, which are plain graphs with random weights
planned node by node. "Without sharing" is the bound (and the plan over it) if each tensor has its own buffer; after it,
tensors share storage where that is legal (views, element-wise in place, parts of Concat and Split). Seconds are for
lifetimes and plan together. This is a plan, not what an engine uses.
"""


def format_report(results: dict[str, Any]) -> str:
    """The whole of memory.md."""
    machine = results["machine"]
    text = HEAD
    text += "\n" + _machine(machine)
    text += (
        f"\nThe compiled kernel is numba's. Its first use on a machine compiles it: with an empty cache A took "
        f"{results['cold_seconds']:.1f} s, {results['cold_cpu_seconds']:.1f} s of them CPU time.\n\n"
    )
    has_peer = any(row["cpsat"] is not None for row in results["problems"])
    head = ["instance", "buffers", "bound / capacity", "best greedy / bound", "ours / bound", "solved", "nodes", "s",
            "CPU s", "MiniMalloc s"] + (["CP-SAT, 2 workers, s"] if has_peer else [])  # fmt: skip
    rows = []
    for row in results["problems"]:
        cells = [
            row["name"], row["buffers"], f"{row['bound'] / row['capacity']:.4f}",
            f"{row['greedy'] / row['bound']:.4f}", f"{row['height'] / row['bound']:.4f}",
            "yes" if row["height"] <= row["capacity"] else "NO", row["nodes"], f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}", f"{results['published_seconds'].get(row['name'], float('nan')):.2f}",
        ]  # fmt: skip
        if has_peer:
            cells.append(row["cpsat"] or "not within the limit")
        rows.append([str(cell) for cell in cells])
    text += format_table(head, rows)
    if not results["networks"]:
        return text
    text += NETWORKS + "\n"
    head = ["network", "buffers", "apart MiB", "without sharing MiB (ratio)", "bound MiB", "by start / bound",
            "by size / bound", "ours / bound", "sharing", "found by", "s", "CPU s"]  # fmt: skip
    rows = []
    for row in results["networks"]:
        if row["refused"]:
            rows.append([row["name"], "-", "-", "-", "-", "-", "-", "-", "-", row["refused"], "-", "-"])
            continue
        bound = row["bound"]
        rows.append([
            row["name"] + ("*" if row["name"] in results["built"] else ""), str(row["buffers"]), _mib(row["apart"]),
            f"{_mib(row['plain_bound'])} ({row['plain_height'] / row['plain_bound']:.4f})", _mib(bound),
            f"{row['by_start'] / bound:.3f}", f"{row['by_size'] / bound:.3f}", f"{row['height'] / bound:.4f}",
            row["reuse"], row["method"], f"{row['seconds']:.3f}",
            f"{row['cpu_seconds']:.3f}",
        ])  # fmt: skip
    return text + format_table(head, rows)


def _machine(machine: dict[str, str]) -> str:
    return (
        f"Measured {machine['time_utc']} on {machine['processor']}, {machine['cores_allowed']} cores, load "
        f"{machine['load']}; {machine['versions']}.\nCommand: `{machine['command']}`\n"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.3f}"
