"""Puts the layers of a DLA plan on the DLA, as far as this board's TensorRT takes them.

The plan names ONNX nodes, whose names TensorRT's parser gives to the layers that it makes of them. With a GPU fallback
the network's default device is the GPU and each planned layer is asked about and moved; what is refused stays on the
GPU, and the note says how much of the plan that is. Without one the default device is the DLA, as trtexec does it, and
the first layer that is refused refuses the build, before the builder spends minutes on it.

Limit: `can_run_on_DLA` asks about one layer; the DLA compiler may still refuse a whole loadable. What the engine has on
the DLA in the end is read back from the build log (tensorrt_read_back.py), not from here.
Source: IBuilderConfig in NvInfer.h and python/src/infer/pyCore.cpp of TensorRT's tags 8.2.1 to 11.1.

This file is part of the device half: Python 3.8, standard library only; the module is an argument.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Sequence, Tuple

from hwc.artifacts import Target
from hwc.artifacts_dla import load_dla_plan
from hwc.engines.tensorrt_options import Options
from hwc.errors import TargetError, UsageError
from hwc.targets import find_dla_support

_SHOWN = 3


def require_dla(target: Target, runtime: str) -> None:
    """Refuses a DLA that no source gives to this target with that TensorRT.

    Args:
        runtime: as in a BuildKey, "tensorrt 8.5.2"; one that names no version is left for the builder to judge.

    Raises:
        TargetError: names the fact and its source.
    """
    version = runtime.rpartition(" ")[2]
    if "tensorrt.dla_by_version" not in target.facts or not version.replace(".", "").isdigit():
        return
    support = find_dla_support(target, version)
    if support is True:
        return
    rows = target.fact("tensorrt.dla_by_version")
    raise TargetError(
        f"TensorRT {version} does not drive the DLA of {target.name}" if support is False else
        f"no source says whether TensorRT {version} drives the DLA of {target.name}",
        where="fact tensorrt.dla_by_version", got=version, source=rows.source,
        expected=", ".join(map(str, rows.value)) if isinstance(rows.value, tuple) else "",
        do="compile without --use-dla-core, or install a TensorRT that has it",
    )  # fmt: skip


def place_layers(trt: Any, network: Any, config: Any, options: Options, folder: Path) -> Tuple[str, ...]:
    """Sets the device of each layer of the plan that the options name; notes about what was taken.

    Flags, scales and the DLA core must be set before: TensorRT judges a layer by them.

    Raises:
        UsageError: the plan is for another graph, or cannot be read.
        TargetError: TensorRT refuses a planned layer, and no GPU fallback was asked.
    """
    if not options.named("dla_plan"):
        return ()
    (name,) = options.named("dla_plan")
    plan = load_dla_plan(folder / name)
    layers = {layer.name: layer for layer in (network.get_layer(index) for index in range(network.num_layers))}
    planned = [layer for layer in plan.dla_layers if layer in layers]
    if plan.dla_layers and not planned:
        raise UsageError(
            "no layer of the DLA plan is in this network", where=name, expected=_some(plan.dla_layers),
            got=_some(sorted(layers)), do="compile again: the plan belongs to another graph",
        )  # fmt: skip
    refused = [layer for layer in planned if not config.can_run_on_DLA(layers[layer])]
    has_fallback = options.has_flag("gpu_fallback")
    if refused and not has_fallback:
        raise TargetError(
            f"TensorRT refuses {len(refused)} of {len(planned)} planned layers for the DLA", where=_some(refused),
            got=f"{trt.__name__} {trt.__version__}", do="compile with --gpu-fallback",
        )  # fmt: skip
    core, count = options.number("dla_core"), len(plan.dla_layers)
    if not has_fallback:
        return (f"DLA core {core}: all {len(layers)} layers of the network or none; the plan has {count}",)
    for layer in planned:
        if layer not in refused:
            config.set_device_type(layers[layer], trt.DeviceType.DLA)
    taken = len(planned) - len(refused)
    notes: List[str] = [
        f"DLA core {core}: {taken} of {count} planned layers, {len(layers) - taken} of the network's layers on the GPU"
    ]
    if refused:
        notes.append(f"TensorRT refused {len(refused)} planned layers for the DLA: {_some(refused)}")
    missing = [layer for layer in plan.dla_layers if layer not in layers]
    if missing:
        notes.append(f"{len(missing)} planned layers are none of TensorRT's, which merged or renamed them: "
                     f"{_some(missing)}")  # fmt: skip
    return tuple(notes)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more
