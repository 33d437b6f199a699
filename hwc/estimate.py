"""HOST half: latency and energy of a model on a Jetson before the board arrives, from the graph alone.

    target    the board, and its clocks in one power mode
    capture   as for a compile
    optimize  the passes for that board, in FP32; the fusion groups that come out are those of the engine
    price     the groups in the precision asked for: GPU, one DLA core, both together; then power and energy per scope

Every number is an estimate: nothing was built and no device was seen. What cannot be estimated says why instead.
INT8 prices the FP32 groups as integers, so it needs no calibration data and assumes that every layer takes INT8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hwc import targets
from hwc.artifacts import Target, TensorSpec
from hwc.capture import MODEL, capture_model
from hwc.cost.estimate_latency import LatencyEstimate, estimate_dla, estimate_gpu
from hwc.cost.fitted import load_fitted
from hwc.cost.machine import Machine, machine_of
from hwc.cost.price_kernels import unit_of
from hwc.cost.price_power import PowerEstimate, estimate_power
from hwc.engines.base import Progress, no_progress
from hwc.errors import TargetError, UsageError
from hwc.frontend.input_shapes import InputShapes
from hwc.optimize import OptimizeOptions, optimize_model
from hwc.store import Store


@dataclass(frozen=True)
class EstimateRequest:
    """What the user asked for; `hwc estimate --help` says what each means."""

    model: str
    target: str
    precision: str = "fp16"
    power_mode: str = ""
    gpu_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    shapes: InputShapes = field(default_factory=InputShapes)


@dataclass(frozen=True)
class EnergyEstimate:
    """Power while inferences run one after another, and energy of one, in one scope of measurement."""

    power: PowerEstimate
    joules: float
    low: float
    high: float


@dataclass(frozen=True)
class EstimateReport:
    """All that was estimated.

    Args:
        dla: one core, as if every group could run there; None with `dla_reason`.
        together: images per second of the GPU and all DLA cores at once, between its faster engine alone and the sum
            of all; None with `dla_reason`.
        energy: one per scope in which the board has published figures; empty with `energy_reason`.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    target: Target
    machine: Machine
    gpu: LatencyEstimate
    dla: LatencyEstimate | None
    together: tuple[float, float] | None
    dla_reason: str
    energy: tuple[EnergyEstimate, ...]
    energy_reason: str
    notes: tuple[str, ...]


def estimate_model(
    request: EstimateRequest, *, store: Store, progress: Progress = no_progress
) -> EstimateReport:
    """Captures, optimizes and prices the model.

    Raises:
        UsageError: the model, a shape, the target's name or the precision is wrong.
        TargetError: the target does not know a fact that is needed, or is no Jetson.
        EngineError: the optimized graph gives other outputs than the captured one.
    """
    import onnx_ir as ir

    from hwc.graph.shapes import infer_shapes

    target = targets.load(request.target)
    machine = machine_of(
        target, request.power_mode, gpu_mhz=request.gpu_clock_mhz, memory_mhz=request.memory_clock_mhz
    )
    unit_of(machine, request.precision)  # a board that cannot say so is refused before any work
    progress("capturing the model", 0.0)
    captured, _ = capture_model(request.model, request.shapes, store=store)
    if any(not spec.is_static for spec in captured.inputs):
        raise UsageError("an estimate is of one size", expected="fixed input shapes", got="a dynamic dimension",
                         do="give sizes with --input-shapes")  # fmt: skip
    progress("optimizing the graph", 0.3)
    options = OptimizeOptions("fp32", target.engine)
    optimized, _ = optimize_model(captured, target, options, store=store, progress=progress)
    model = ir.load(optimized.folder / MODEL)
    infer_shapes(model)
    progress("pricing the groups", 0.9)
    gpu, kernels = estimate_gpu(model, optimized.groups, machine, request.precision)
    dla, reason = None, ""
    try:
        dla = estimate_dla(model, optimized.groups, target, machine, request.precision)
    except (TargetError, UsageError) as error:
        reason = f"{error.what}: {error.got}" if error.got else error.what
    energy = tuple(_energy_of(gpu, power) for power in estimate_power(load_fitted().power, machine, kernels))
    progress("done", 1.0)
    return EstimateReport(
        name=captured.name, inputs=optimized.inputs, target=target, machine=machine, gpu=gpu, dla=dla,
        together=_together(gpu, dla, int(target.number("dla.count"))) if dla is not None else None,
        dla_reason=reason, energy=energy,
        energy_reason="" if energy else f"no published power of {target.name} with a stated scope",
        notes=_notes(gpu, request.precision, optimized.inputs),
    )  # fmt: skip


def _energy_of(gpu: LatencyEstimate, power: PowerEstimate) -> EnergyEstimate:
    """Watts times seconds; the two errors are taken as independent, so their logarithms add up as squares."""
    low = math.exp(-math.hypot(math.log(gpu.low / gpu.seconds), math.log(power.low / power.watts)))
    high = math.exp(math.hypot(math.log(gpu.high / gpu.seconds), math.log(power.high / power.watts)))
    joules = power.watts * gpu.seconds
    return EnergyEstimate(power, joules, joules * low, joules * high)


def _together(gpu: LatencyEstimate, dla: LatencyEstimate, cores: int) -> tuple[float, float]:
    """Nothing is known of how the engines share the memory, so only the two ends are given.

    Published: three trtexec at once reached 47 % of the sum (ResNet-50 in INT8, AGX Orin), with layers of the DLA
    engines that fell back to the GPU.
    """
    rates = [1 / gpu.seconds, *[1 / dla.seconds] * cores]
    return max(rates), sum(rates)


_BASIS = {
    "board": "published figures of this board were in the fit",
    "architecture": "no published figure of this board was in the fit, others of its compute capability were",
    "none": "no published figure of this compute capability was in the fit",
}


def _notes(gpu: LatencyEstimate, precision: str, inputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    notes = [
        f"interval: four in five left-out figures; {_BASIS[gpu.basis]}",
        "the device's own time; copies, decoding, non-maximum suppression and the caller come on top",
    ]
    if any(spec.at("opt")[:1] not in ((), (1,)) for spec in inputs):
        notes.append("the interval was found at batch 1, and this is a larger one")
    if precision == "int8":
        notes.append("INT8 is assumed for every layer")
    if precision == "fp32":
        notes.append("FP32 may run as TF32 on tensor cores, as in the published figures")
    return tuple(notes)
