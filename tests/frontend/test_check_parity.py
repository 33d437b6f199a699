"""The gate opens for a true export, and shuts for each way in which exports have gone wrong."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
import torch

import hwc.frontend.check_parity as check_parity_module
from hwc.errors import EngineError, UsageError
from hwc.frontend.check_parity import check_parity, draw
from hwc.frontend.input_shapes import parse_shapes
from hwc.frontend.onnx_file import import_model
from hwc.frontend.torch_export import Example
from tests.frontend import networks, small_models

WEIGHT = small_models.weights(3, 3)
BATCHES = parse_shapes("", "x:1x3", "x:4x3", "x:8x3")


class Affine(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(WEIGHT.copy()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def graph(body: str = "y = MatMul (x, w)", *, x: str = "float[N, 3]", y: str = "float[N, 3]", **arrays) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({x} x) => ({y} y) {{ {body} }}'
    arrays = {"w": WEIGHT, **arrays}
    used = {name: array for name, array in arrays.items() if re.search(rf"[(,] ?{name}[,)]", body)}
    return import_model(ir.from_proto(small_models.with_weights(text, **used))).model


def example(rows: int = 4, seed: int = 3) -> Example:
    generator = torch.Generator().manual_seed(seed)
    return Example((torch.randn(rows, 3, generator=generator),), {}, ("x",))


def test_a_true_export_passes() -> None:
    report = check_parity(Affine(), graph(), example(), BATCHES)
    assert report.rel_error < 1e-6 and report.runs == 8 and report.seeds == (0, 1)
    assert report.batch == "each of 4 rows alone equals the row in a batch of 8"
    assert report.judge.startswith("onnxruntime")
    assert report.notes == ("the module was in training mode: compared in eval mode",)
    fixed = check_parity(Affine(), graph(x="float[4, 3]", y="float[4, 3]"), example())
    assert fixed.batch == "a batch of 4 copies of one row gives 4 copies of that row's output"


def baked() -> np.ndarray:
    return example().args[0].numpy() @ WEIGHT


WRONG = {
    "tampered weight": (lambda: graph(w=WEIGHT + np.eye(3, k=1, dtype=np.float32) * 0.01), "differs"),
    "output baked from the example": (
        lambda: graph("z = Mul (x, zero)  y = Add (z, b)", zero=np.zeros((), np.float32), b=baked()), "differs"),
    "one input row baked": (
        lambda: graph("m = MatMul (x, w)  y = Where (c, m, b)", c=np.array([[1], [1], [1], [0]], bool), b=baked()[3:]),
        "differs|failed"),
    "dropout left on": (lambda: graph("m = MatMul (x, w)  y = Dropout (m, r, t)", r=np.float32(0.5), t=np.array(True)),
                        "differs"),
    "transposed": (lambda: graph("m = MatMul (x, w)  y = Transpose (m)", y="float[3, N]"), "another shape"),
    "transposed square": (lambda: graph("y = Gemm <transB = 1> (x, w)"), "differs"),
    "other dtype": (lambda: graph("m = MatMul (x, w)  y = Cast <to = 11> (m)", y="double[N, 3]"), "another dtype"),
    "NaN": (lambda: graph("m = MatMul (x, w)  y = Log (m)"), "(?s)differs.*NaN"),
    "mean over the batch": (
        lambda: graph("m = MatMul (x, w)  d = ReduceMean (m, a)  e = Mul (d, s)  y = Add (m, e)", a=np.array([0]),
                      s=np.float32(1e-2)), "differs"),
    "fixed to its batch": (lambda: graph("r = Reshape (x, s)  y = MatMul (r, w)", s=np.array([4, 3])), "failed|an"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_export_is_caught(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(EngineError, match=message):
        check_parity(Affine(), make(), example(), BATCHES)


def test_rows_that_mix_are_caught_by_the_batch_check_itself() -> None:
    mixing = graph("m = MatMul (x, w)  d = ReduceMean (m, a)  y = Add (m, d)", a=np.array([0]))
    run, _ = check_parity_module.open_graph(mixing)
    gate = check_parity_module._Gate(Affine(), run, mixing, example(), 1e-3, 1e-5)
    for shapes in (BATCHES, None):
        with pytest.raises(EngineError, match="mixes the rows of a batch"):
            gate.check_batch(example(), shapes)


def test_swapped_outputs_are_caught() -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x - 1

    text = ('<ir_version: 8, opset_import: ["" : 18]> g (float[4, 3] x) => (float[4, 3] a, float[4, 3] b) '
            "{ a = Sub (x, one)  b = Add (x, one) }")  # fmt: skip
    model = import_model(ir.from_proto(small_models.with_weights(text, one=np.float32(1)))).model
    with pytest.raises(EngineError, match="output 'a'"):
        check_parity(Two(), model, example())
    del model.graph.outputs[1]
    with pytest.raises(EngineError, match="other outputs"):
        check_parity(Two(), model, example())


def test_a_module_that_is_random_is_no_judge() -> None:
    model = graph("y = Identity (x)")
    with pytest.raises(UsageError, match="two answers to one input"):
        check_parity(networks.Random(), model, example(), BATCHES)


def test_an_axis_that_is_no_batch_is_said_and_not_blamed() -> None:
    model = graph("m = ReduceMean (x, a)  y = Sub (x, m)", a=np.array([0]))
    report = check_parity(networks.Centre(), model, example(), BATCHES)
    assert report.batch.startswith("the module itself is not batch invariant")


def test_nan_in_the_same_places_is_no_error() -> None:
    class Log(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x)

    assert check_parity(Log(), graph("y = Log (x)"), example(), BATCHES).rel_error < 1e-5


def test_the_reference_evaluator_steps_in_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class NotImplementedByRuntime(Exception):
        pass

    def refuse(*_: object) -> None:
        raise NotImplementedByRuntime("no kernel")

    monkeypatch.setattr(check_parity_module, "_ort_session", refuse)
    report = check_parity(Affine(), graph(), example(), BATCHES)
    assert report.judge.startswith("onnx reference evaluator")
    with pytest.raises(EngineError, match="differs"):
        check_parity(Affine(), graph(w=WEIGHT * 2), example(), BATCHES)


def test_drawn_integers_stay_within_the_example() -> None:
    given = Example((torch.tensor([[3, 9], [4, 5]]), torch.ones(2, dtype=torch.bool)), {}, ("ids", "mask"))
    ids, mask = draw(given, None, "opt", 0).tensors()
    assert ids.dtype == torch.int64 and int(ids.min()) >= 3 and int(ids.max()) <= 9
    assert mask.dtype == torch.bool
    again = draw(given, None, "opt", 0).tensors()[0]
    assert torch.equal(ids, again) and not torch.equal(ids, draw(given, None, "opt", 1).tensors()[0])
