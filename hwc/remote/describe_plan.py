"""What a deployment would do on a board, in the words of `--dry-run`."""

from __future__ import annotations

import shlex

from hwc.artifacts import Bundle, PowerMode
from hwc.remote.copy_bundle import PROGRAM, Plan, show_bytes


def describe_plan(plan: Plan, bundle: Bundle, mode: PowerMode | None, commands: dict[str, list[str]]) -> list[str]:
    """What a run would do, one line each."""
    if plan.is_current:
        lines = [f"copy nothing: {plan.folder} holds this bundle"]
    else:
        lines = [
            f"send {item['name']}: {show_bytes(item['size'] - item['have'])}"
            + (f" of {show_bytes(item['size'])}" if item["have"] else "")
            for item in plan.send
        ]
        lines.append(f"link what is there: {show_bytes(plan.reused_bytes)}; free: {show_bytes(plan.free_bytes)}")
        lines.append(f"ask {PROGRAM} doctor for TensorRT and the GPU, wanted: {bundle.target.title}")
        lines.append(f"rename {plan.folder}.partial to {plan.folder}")
    if mode is not None:
        lines.append(f"run sudo -n nvpmodel -m {mode.id}, which is {mode.name}, and restore the mode of before")
    for verb, flags in commands.items():
        lines.append("run " + shlex.join(["python3", f"{plan.folder}/{PROGRAM}", verb, plan.folder, *flags]))
    return lines
