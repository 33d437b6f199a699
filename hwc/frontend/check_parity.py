"""The parity gate: does the exported graph compute what the module computes?

Exporters bake constants in, swap outputs and drop modes without a word (pytorch#169178: ResNet-18, 0 % on ImageNet).
So the graph is run by ONNX Runtime against the eager module, on the example inputs and on random ones:

1. values: max |graph - eager| <= atol + rtol * max |eager| per output, over every run; NaN and infinity must stand in
   the same places. One run with the example alone would pass a graph that returns a constant.
2. shapes: where dimensions vary, random inputs also take their min and max sizes.
3. batch: if in eager mode f(x)[i] equals f(x[i:i+1]), it must in the graph. Where the batch is fixed, a batch of copies
   of x[i] must give copies of f(x)[i] (TensorRT#4813: four equal rows, four answers). A module whose axis 0 is no
   batch is no error; the report says so.
4. repetition: eager runs on one input must agree with each other, or there is nothing to compare with.

Random floats have the example's mean and deviation, integers are drawn between the example's own extremes.
Limits: what no drawn input triggers is not seen; the judge is one runtime (onnx's reference evaluator where ONNX
Runtime lacks an operator, and the report names it).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.artifacts import DynamicDim
from hwc.errors import EngineError, UsageError
from hwc.frontend.input_shapes import InputShapes
from hwc.frontend.torch_export import Example, run_module

RTOL = 1e-3  # of the output's largest magnitude: FP32 sums in another order stay 10 times below this
ATOL = 1e-5
HALF_RTOL = 2e-2  # FP16 and BF16 carry 3 digits
_IN_MEMORY_BYTES = 2**30
_MAX_ELEMENTS = 2**26  # of a random input; larger `max` sizes are left to the engine's own tests

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class OutputParity:
    """The worst of all runs for one output. `rel_error` is the largest error over the output's largest magnitude."""

    name: str
    dtype: str
    abs_error: float
    rel_error: float
    tolerance: float


@dataclass(frozen=True)
class ParityReport:
    """What the gate saw. `batch` says how batch invariance was tested, or why it was not."""

    outputs: tuple[OutputParity, ...]
    runs: int
    seeds: tuple[int, ...]
    shapes: tuple[str, ...]
    batch: str
    judge: str
    notes: tuple[str, ...] = ()

    @property
    def abs_error(self) -> float:
        return max((output.abs_error for output in self.outputs), default=0.0)

    @property
    def rel_error(self) -> float:
        return max((output.rel_error for output in self.outputs), default=0.0)


def check_parity(
    module: Any,
    model: ir.Model,
    example: Example,
    shapes: InputShapes | None = None,
    *,
    draws: int = 2,
    seed: int = 0,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> ParityReport:
    """Runs the gate.

    Args:
        module: what was exported: a module, which is put into eval mode, or a torch.export.ExportedProgram.
        example: the inputs of the export, from `Exported.example`.
        shapes: where dimensions vary, their ranges.
        draws: random inputs at each of the opt, min and max sizes.
        rtol: of the output's largest magnitude; at least HALF_RTOL for 16-bit outputs.

    Raises:
        UsageError: the module itself is not deterministic, or its outputs are no tensors.
        EngineError: the graph differs from the module, or cannot be run.
    """
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
    notes = _force_eval(module)
    graph, judge = open_graph(model)
    seeds = tuple(seed + index for index in range(draws))
    gate = _Gate(module, graph, model, example, rtol, atol)
    gate.compare(example, "the example inputs")
    tried = ["example"]
    for which in _sizes(example, shapes):
        for number in seeds:
            gate.compare(draw(example, shapes, which, number), f"random inputs (seed {number}, {which} sizes)")
        tried.append(which)
    first = draw(example, shapes, "opt", seed)
    gate.compare(first, "the first random inputs again")
    batch = gate.check_batch(draw(example, shapes, "max" if shapes and _varies(shapes) else "opt", seed), shapes)
    return ParityReport(tuple(gate.worst.values()), gate.runs, seeds, tuple(tried), batch, judge, tuple(notes))


def _force_eval(module: Any) -> list[str]:
    import torch

    # A graph that torch.export made has no modes left to switch, and says so with an exception.
    switchable = not isinstance(module, torch.fx.GraphModule)
    if switchable and any(getattr(part, "training", False) for part in module.modules()):
        module.eval()
        return ["the module was in training mode: compared in eval mode"]
    return []


def _varies(shapes: InputShapes) -> bool:
    return any(isinstance(dim, DynamicDim) for dims in shapes.shapes.values() for dim in dims)


def _sizes(example: Example, shapes: InputShapes | None) -> tuple[str, ...]:
    if shapes is None or not _varies(shapes):
        return ("opt",)
    bound = shapes.for_inputs(list(example.names))
    largest = max(
        int(np.prod([d if isinstance(d, int) else d.max for d in dims], dtype=object)) for dims in bound.shapes.values()
    )
    return ("opt", "min", "max") if largest <= _MAX_ELEMENTS else ("opt", "min")


def draw(example: Example, shapes: InputShapes | None, which: str, seed: int) -> Example:
    """Random inputs like the example's, at the `which` sizes of dimensions that vary."""
    import torch

    rng = np.random.default_rng(seed)
    bound = shapes.for_inputs(list(example.names)).shapes if shapes is not None else {}
    direct = dict(zip(example.names, [*example.args, *example.kwargs.values()]))
    by_tensor = {id(value): bound.get(name) for name, value in direct.items()}
    made = []
    for tensor in example.tensors():
        dims = by_tensor.get(id(tensor)) or tuple(tensor.shape)
        size = [dim if isinstance(dim, int) else getattr(dim, which) for dim in dims]
        array = tensor.detach().to(torch.float64).numpy() if tensor.dtype != torch.bool else None
        if array is None:
            made.append(torch.from_numpy(rng.integers(0, 2, size).astype(bool)))
        elif tensor.dtype.is_floating_point:
            mean, deviation = (float(array.mean()), float(array.std())) if array.size else (0.0, 1.0)
            # A constant example (a scale, a state of zeros) says nothing about the range.
            values = rng.normal(mean, deviation or 1.0, size)
            made.append(torch.from_numpy(np.asarray(values)).to(tensor.dtype))
        else:
            low, high = (int(array.min()), int(array.max())) if array.size else (0, 1)
            made.append(torch.from_numpy(np.asarray(rng.integers(low, high, size, endpoint=True))).to(tensor.dtype))
    return example.replace(made)


class _Gate:
    """Both sides of the comparison and the worst that was seen."""

    def __init__(
        self,
        module: Any,
        graph: Callable[[Arrays], Arrays],
        model: ir.Model,
        example: Example,
        rtol: float,
        atol: float,
    ) -> None:
        self.module, self.graph = module, graph
        self.names = [str(value.name) for value in model.graph.outputs]
        self.rtol, self.atol = rtol, atol
        self.worst: dict[str, OutputParity] = {}
        self.runs = 0
        expected, got = len(example.tensors()), len(model.graph.inputs)
        if expected != got:
            raise EngineError(
                "the exported graph has other inputs than the module", expected=f"{expected} tensors",
                got=", ".join(str(value.name) for value in model.graph.inputs), do="an input may be unused: remove it",
            )  # fmt: skip

    def eager(self, example: Example) -> Arrays:
        return flatten_outputs(run_module(self.module, example))

    def exported(self, example: Example) -> Arrays:
        return self.graph([to_array(tensor) for tensor in example.tensors()])

    def compare(self, example: Example, what: str) -> None:
        wanted, again = self.eager(example), self.eager(example)
        for index, (one, two) in enumerate(zip(wanted, again)):
            if not np.array_equal(one, two, equal_nan=one.dtype.kind in "fc") and _error(one, two)[0] > self.atol:
                raise UsageError(
                    f"{type(self.module).__name__} gives two answers to one input", where=f"output {index}, {what}",
                    got=f"a difference of {_error(one, two)[0]:.3g}",
                    do="something random or stateful runs in eval mode (dropout with training=True, a buffer that "
                    "grows): take it out",
                )  # fmt: skip
        found = self.exported(example)
        self.runs += 1
        if len(found) != len(wanted):
            raise EngineError(
                "the exported graph has other outputs than the module", expected=f"{len(wanted)} tensors",
                got=", ".join(self.names),
            )  # fmt: skip
        for name, want, have in zip(self.names, wanted, found):
            self._judge(name, want, have, what)

    def _judge(self, name: str, want: np.ndarray, have: np.ndarray, what: str) -> None:
        advice = "do not deploy this graph: the export is wrong; change the code that it stems from, or the opset"
        for kind, expected, got in (("dtype", want.dtype, have.dtype), ("shape", want.shape, have.shape)):
            if expected != got:
                raise EngineError(
                    f"output '{name}' of the exported graph has another {kind} than the module's", where=what,
                    expected=str(expected), got=str(got), do=advice,
                )  # fmt: skip
        error, relative = _error(want, have)
        rtol = max(self.rtol, HALF_RTOL) if want.dtype.itemsize == 2 and want.dtype.kind == "f" else self.rtol
        peak = error / relative if relative else 0.0
        tolerance = self.atol + rtol * peak if want.dtype.kind in "fc" else 0.0
        if not error <= tolerance:
            raise EngineError(
                f"output '{name}' of the exported graph differs from the module's", where=what,
                expected=f"at most {tolerance:.3g} (atol {self.atol:g} + rtol {rtol:g} of its largest value)",
                got="NaN or infinity in other places" if np.isnan(error) else f"{error:.3g}, relative {relative:.3g}",
                do=advice,
            )  # fmt: skip
        before = self.worst.get(name)
        if before is None or error > before.abs_error:
            self.worst[name] = OutputParity(name, str(want.dtype), error, relative, tolerance)

    def check_batch(self, example: Example, shapes: InputShapes | None) -> str:
        """Rule 3 on one example with several rows."""
        tensors = example.tensors()
        sizes = {tensor.shape[0] for tensor in tensors if tensor.dim()}
        if len(sizes) != 1 or any(not tensor.dim() for tensor in tensors):
            return "not tested: the inputs do not share axis 0"
        batch = sizes.pop()
        if batch < 2:
            return "not tested: the batch is 1; every run was compared with eager by itself"
        bound = shapes.for_inputs(list(example.names)).shapes if shapes is not None else {}
        first = [dims[0] for dims in bound.values() if dims]
        single = bool(first) and all(isinstance(dim, DynamicDim) and dim.min == 1 for dim in first)
        if single:
            parts = [example.replace([tensor[i : i + 1] for tensor in tensors]) for i in range(min(batch, 4))]
            method = f"each of {len(parts)} rows alone equals the row in a batch of {batch}"

            def variant(run: Callable[[Example], Arrays]) -> tuple[Arrays, Arrays]:
                whole = run(example)
                rows = [run(part) for part in parts]
                return [out[: len(parts)] for out in whole], [np.concatenate(row) for row in zip(*rows)]
        else:
            method = f"a batch of {batch} copies of one row gives {batch} copies of that row's output"

            def variant(run: Callable[[Example], Arrays]) -> tuple[Arrays, Arrays]:
                whole, rows = run(example), range(min(batch, 4))
                tiled = [run(example.replace([t[i : i + 1].expand_as(t).clone() for t in tensors])) for i in rows]
                wanted = [np.concatenate([out[i : i + 1].repeat(batch, 0) for i in rows]) for out in whole]
                return wanted, [np.concatenate(parts) for parts in zip(*tiled)]

        if any(not out.ndim or out.shape[0] != batch for out in self.eager(example)):
            return "not tested: an output has no batch on axis 0"
        if not self._same(*variant(self.eager)):
            return "the module itself is not batch invariant (axis 0 may be no batch): not asked of the graph"
        if not self._same(*variant(self.exported)):
            raise EngineError(
                "the exported graph mixes the rows of a batch, and the module does not", where="axis 0",
                expected=method, do="do not deploy this graph: the export is wrong",
            )  # fmt: skip
        return method

    def _same(self, one: Arrays, two: Arrays) -> bool:
        return all(
            a.shape == b.shape and bool(_error(a, b)[0] <= self.atol + self.rtol * _peak(a)) for a, b in zip(one, two)
        )


def _peak(array: np.ndarray) -> float:
    wide = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    finite = wide[np.isfinite(wide)]
    return float(finite.max()) if finite.size else 0.0


def _error(want: np.ndarray, have: np.ndarray) -> tuple[float, float]:
    """Largest absolute error, and that over the largest magnitude; NaN if non-finite values stand elsewhere."""
    if want.dtype.kind not in "fc":
        wrong = int(np.count_nonzero(want != have))
        return float(wrong), wrong / max(1, want.size)
    a, b = (array.astype(np.complex128 if array.dtype.kind == "c" else np.float64) for array in (want, have))
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("nan"), float("nan")
    error = float(np.abs(a[finite] - b[finite]).max()) if finite.any() else 0.0
    return error, error / (_peak(want) or 1.0)


def to_array(tensor: Any) -> np.ndarray:
    """numpy has no bfloat16 of its own; ONNX Runtime takes it as float32 only, so such inputs are not supported."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy()).reshape(tuple(tensor.shape))


def flatten_outputs(outputs: Any) -> Arrays:
    """All tensors that the module returned, in order.

    Raises:
        UsageError: it returned none.
    """
    import torch.utils._pytree as pytree

    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if hasattr(leaf, "numpy")]
    if not leaves:
        raise UsageError("the module returns no tensors", got=type(outputs).__name__)
    return [to_array(leaf) for leaf in leaves]


def open_graph(model: ir.Model) -> tuple[Callable[[Arrays], Arrays], str]:
    """A function that runs the graph, and the name of what runs it.

    Raises:
        EngineError: neither ONNX Runtime nor the reference evaluator takes the graph.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    names = [str(value.name) for value in model.graph.inputs]
    try:
        session = _ort_session(ort, model, options)
    except Exception as error:  # its pybind exceptions share no public base class
        if "NotImplemented" not in type(error).__name__ and "NOT_IMPLEMENTED" not in str(error):
            raise EngineError("ONNX Runtime refuses the exported graph", got=str(error).splitlines()[0][:300]) from None
        return _reference(model, names), "onnx reference evaluator (ONNX Runtime lacks an operator)"

    def run(arrays: Arrays) -> Arrays:
        return _guarded("ONNX Runtime", lambda: session.run(None, dict(zip(names, arrays))))

    return run, f"onnxruntime {ort.__version__}"


def _ort_session(ort: Any, model: ir.Model, options: Any) -> Any:
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if weights <= _IN_MEMORY_BYTES:
        content = ir.to_proto(model).SerializeToString()
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    with tempfile.TemporaryDirectory(prefix="hwc-parity-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model.clone(), path, external_data="weights.bin")
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _reference(model: ir.Model, names: Sequence[str]) -> Callable[[Arrays], Arrays]:
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(ir.to_proto(model))
    except Exception as error:  # NotImplementedError and its own kinds, by operator
        raise EngineError("no runtime here can run the exported graph", got=str(error)[:300]) from error
    return lambda arrays: _guarded("the reference evaluator", lambda: evaluator.run(None, dict(zip(names, arrays))))


def _guarded(what: str, run: Callable[[], Sequence[Any] | Mapping[str, Any]]) -> Arrays:
    try:
        return [np.asarray(value) for value in run()]
    except Exception as error:  # see open_graph
        raise EngineError(
            f"{what} failed on the exported graph", got=str(error).splitlines()[0][:300],
            do="the graph may be fixed to the sizes that it was traced with: check the dimensions that vary",
        ) from None  # fmt: skip
