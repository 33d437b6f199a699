"""Which layers of a network run on a DLA core: the plan that a board builds by, and its file.

`dla_plan.json` is a `DlaPlan` as `to_json` writes it. A builder reads it so:

    objective "all": default device DLA, no fallback; one layer that TensorRT refuses refuses the build
    others: default device GPU; GPU fallback allowed
        for each TensorRT layer whose name is in `plan.dla_layers`:
            ask config.can_run_on_DLA(layer); if yes set_device_type(layer, DLA), else report it and leave it on the GPU
        layers of other names (constants, shuffles that the parser makes) stay on the GPU

Layer names are those of the ONNX nodes, which TensorRT's parser gives to the layers that it makes of them.
`model_digest` is that of the graph beside the plan: a plan for another graph is refused by `check_plan`.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from hwc.errors import UsageError
from hwc.serialize import from_json, to_json

DLA_PLAN = "dla_plan.json"
SCHEMA = 1


@dataclass(frozen=True)
class DlaLoadable:
    """One connected part of the network that is compiled for, and loaded into, a DLA core.

    `layers` are in execution order; `inputs` and `outputs` are the tensors that cross its border.
    """

    name: str
    layers: Tuple[str, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


@dataclass(frozen=True)
class DlaPlan:
    """Where each layer runs. Times are estimates in milliseconds, None where a layer has none.

    `estimate_dla_ms` is with every layer on DLA that may run there, whatever the limit on loadables.
    """

    schema: int
    target: str
    generation: str
    tensorrt: str
    precision: str  # "fp16" or "int8"
    objective: str  # "latency", "offload" or "all"
    core: int
    model_digest: str
    loadables: Tuple[DlaLoadable, ...]
    loadable_limit: int
    gpu_layers: Tuple[str, ...]
    transitions: int  # tensors that cross between GPU and DLA, network inputs and outputs included
    estimate_gpu_ms: float
    estimate_dla_ms: float
    estimate_planned_ms: float
    notes: Tuple[str, ...] = ()

    @property
    def dla_layers(self) -> Tuple[str, ...]:
        """Names of all layers that the plan puts on DLA, in execution order within each loadable."""
        return tuple(name for loadable in self.loadables for name in loadable.layers)


def write_dla_plan(folder: Path, plan: DlaPlan) -> Path:
    """Writes `dla_plan.json` into the folder, by a temporary sibling; returns its path."""
    path = folder / DLA_PLAN
    sibling = folder / (DLA_PLAN + ".part")
    sibling.write_text(to_json(plan), encoding="utf-8")
    os.replace(str(sibling), str(path))
    return path


def read_dla_plan(folder: Path) -> Optional[DlaPlan]:
    """The plan in that folder, None if there is none; errors as `load_dla_plan`."""
    path = folder / DLA_PLAN
    return load_dla_plan(path) if path.is_file() else None


def load_dla_plan(path: Path) -> DlaPlan:
    """The plan in that file.

    Raises:
        UsageError: the file is no plan, is of another version, or lists a layer twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot read the DLA plan", where=str(path), got=str(error), do="compile again") from None
    plan = from_json(DlaPlan, text)
    if plan.schema != SCHEMA:
        raise UsageError(
            "the DLA plan has another version", where=str(path), expected=str(SCHEMA), got=str(plan.schema),
            do="use the hwc that wrote the bundle, or compile again",
        )
    names = plan.dla_layers + plan.gpu_layers
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError("the DLA plan lists a layer twice", where=str(path), got=twice[0], do="compile again")
    return plan


def check_plan(plan: DlaPlan, *, target: str, model_digest: str) -> None:
    """Raises UsageError unless the plan was made for this target and this graph."""
    for what, expected, got in (("target", target, plan.target), ("graph", model_digest, plan.model_digest)):
        if expected != got:
            raise UsageError(
                f"the DLA plan is for another {what}", where=DLA_PLAN, expected=expected, got=got, do="compile again"
            )
