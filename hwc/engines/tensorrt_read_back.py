"""Reads back what a TensorRT builder left in a folder: kernels, precisions, memory, and the words about them.

From the inspector where a GPU could load the plan, else from the build log; the graph is never asked.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from hwc.artifacts import Kernel
from hwc.engines.base import BuildRequest
from hwc.engines.inspect import check_precision
from hwc.engines.tensorrt_child import LAYERS, LOG, PLAN
from hwc.engines.tensorrt_log import (
    count_fills,
    dla_loadables_from_log,
    kernels_from_layers,
    layers_from_inspector,
    layers_from_log,
    memory_from_log,
    tactic_milliseconds,
)
from hwc.errors import TargetError


@dataclass(frozen=True)
class ReadBack:
    """One built plan. Bytes are None where nothing reports them; `tactics` is (sum in ms, kernels with a time)."""

    folder: Path
    kernels: Tuple[Kernel, ...]
    notes: Tuple[str, ...]
    size_bytes: int
    activation_bytes: Optional[int]
    weight_bytes: Optional[int]
    tactics: Tuple[float, int]
    latency_ms: Optional[float] = None


def read_back(folder: Path, request: BuildRequest, result: Dict[str, Any]) -> ReadBack:
    """The plan in that folder.

    Raises:
        TargetError: the engine's arithmetic is not what was asked.
        EngineError: neither inspector nor log can be read.
    """
    log = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    inspected = (folder / LAYERS).is_file()
    layers = layers_from_inspector((folder / LAYERS).read_text()) if inspected else layers_from_log(log)
    kernels = kernels_from_layers(layers)
    fast = [layer for layer in layers if "tf32" in layer.tactic.lower()]
    if fast and request.options.get("allow_tf32") != "yes":
        raise TargetError(
            "TensorRT chose TF32 although it was switched off",
            where=f"layer '{fast[0].name}'",
            expected="fp32 arithmetic",
            got=fast[0].tactic,
            do="ask for allow_tf32=yes if 10 bits of mantissa are enough",
        )
    memory = memory_from_log(log)
    if memory["activation_bytes"] is None and result["device_bytes"] is not None:
        memory["activation_bytes"] = int(result["device_bytes"])
    notes: List[str] = [
        f"{result['module']} {result['version']}, {'strongly' if result['is_strongly_typed'] else 'weakly'} typed, "
        f"TF32 {'on' if result['tf32'] else 'off'}",
        *result.get("notes", ()),
        f"kernels read from the {'engine inspector' if inspected else 'build log'}; "
        f"{len(layers) - len(kernels)} layers are bookkeeping (signal, wait, shape_call, NoOp)",
        f"{count_fills(layers)} of {len(kernels)} kernels only fill a constant",
    ]
    if "dla_core" in request.options:
        parts = dla_loadables_from_log(log)
        shown = ", ".join(f"'{part}'" for part in parts[:3]) + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")
        notes.append(f"the build log names {len(parts)} loadables on the DLA" + (f": {shown}" if parts else ""))
    return ReadBack(
        folder=folder,
        kernels=kernels,
        notes=(*notes, *check_precision(request.precision, kernels, result["module"])),
        size_bytes=(folder / PLAN).stat().st_size,
        activation_bytes=memory["activation_bytes"],
        weight_bytes=memory["weight_bytes"],
        tactics=tactic_milliseconds(log, layers),
        latency_ms=result.get("latency_ms"),
    )
