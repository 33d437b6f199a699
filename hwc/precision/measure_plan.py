"""How far the INT8 form of a plan is from the FP32 teacher, in dB, on given samples; and plans that may not get worse.

SQNR of one sample is 10 log10(sum r^2 / sum (r - q)^2) over all its float outputs together; the figure is the mean over
samples. It is measured with fake quantization in torch, which is what learning sees; the guard judges the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from hwc.precision.differentiate import Tensor, TorchGraph
from hwc.precision.fake_quantize import PlanGraph, Sample
from hwc.precision.plan import QuantPlan

Progress = Callable[[str, float], None]
_FLOOR = 1e-14  # of the signal's power: 140 dB, where float32 ends


def to_torch(sample: Sample) -> dict[str, Tensor]:
    """The feeds as tensors."""
    import torch

    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in sample.items()}


def teach(model: ir.Model, samples: Sequence[Sample]) -> list[dict[str, Tensor]]:
    """The float outputs of the FP32 graph for each sample."""
    import torch

    graph = TorchGraph(model)
    with torch.no_grad():
        runs = [graph.run(to_torch(sample)) for sample in samples]
    return [{name: value for name, value in run.items() if value.is_floating_point()} for run in runs]


def plan_sqnr_db(plan: QuantPlan, samples: Sequence[Sample], expected: Sequence[Mapping[str, Tensor]]) -> float:
    """Mean SQNR in dB of the plan's outputs against `expected`, of `teach`."""
    student = PlanGraph(plan)
    weights, reads = student.weights(), student.reads()
    import torch

    found = []
    with torch.no_grad():
        for sample, reference in zip(samples, expected):
            got = student.graph.run(to_torch(sample), tuple(reference), constants=weights, reads=reads)
            found.append(sqnr_of(reference, got))
    return float(np.mean(found))


def sqnr_of(reference: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> float:
    """SQNR in dB over all outputs together, at most 140; elements that are not finite in the reference are left out."""
    signal = noise = 0.0
    for name, value in reference.items():
        finite = value.isfinite()
        signal += float(value[finite].double().pow(2).sum())
        noise += float((value[finite].double() - got[name][finite].double()).pow(2).sum())
    if math.isnan(noise) or math.isinf(noise):
        return -140.0
    return 10.0 * math.log10(max(signal, 1e-300) / max(noise, _FLOOR * signal, 1e-300))


def keep_if_better(
    name: str, before: QuantPlan, after: QuantPlan, held: Sequence[Sample], expected: Sequence[Mapping[str, Tensor]],
    effects: Mapping[str, float],
) -> tuple[QuantPlan, dict[str, float]]:  # fmt: skip
    """`after` if it is not worse than `before` on the samples held out, else `before`; the effects say which.

    Effects: `<name>.sqnr_db.before`, `<name>.sqnr_db.after` (what was measured, kept or not), `<name>.kept` (1 or 0).
    """
    first, second = plan_sqnr_db(before, held, expected), plan_sqnr_db(after, held, expected)
    kept = second >= first
    measured = {f"{name}.sqnr_db.before": first, f"{name}.sqnr_db.after": second, f"{name}.kept": float(kept)}
    return (after if kept else before), {**effects, **measured}


def with_constants(model: ir.Model, arrays: Mapping[str, np.ndarray]) -> ir.Model:
    """A clone with the data of some initializers replaced; shapes and dtypes stay."""
    clone = model.clone()
    for name, array in arrays.items():
        value = clone.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(np.asarray(array, value.const_value.dtype.numpy(), order="C"), name=name)
    return clone
