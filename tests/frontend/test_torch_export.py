"""Modules become canonical graphs, quietly, and failures come in one message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwc.errors import UsageError
from hwc.frontend.check_parity import check_parity
from hwc.frontend.input_shapes import parse_shapes
from hwc.frontend.torch_export import export_torch, make_example
from hwc.graph.model import opset
from tests.frontend import networks

RANGE = parse_shapes("", "image:1x3x8x8,scale:1x1", "image:4x3x8x8,scale:4x1", "image:8x3x8x8,scale:8x1")


def test_names_modes_and_ranges(capfd: pytest.CaptureFixture[str]) -> None:
    net = networks.Net()
    exported = export_torch(net, RANGE)
    assert not net.training
    assert exported.notes == ("the module was in training mode: exported in eval mode",)
    assert [value.name for value in exported.model.graph.inputs] == ["image", "scale"]
    assert [value.name for value in exported.model.graph.outputs] == ["logits", "feature"]
    image, scale = (value.shape for value in exported.model.graph.inputs)
    assert not isinstance(image[0], int) and image[0] == scale[0]
    assert list(image)[1:] == [3, 8, 8]
    report = check_parity(net, exported.model, exported.example, RANGE)
    assert report.rel_error < 1e-5 and report.batch.startswith("each of 4 rows alone")
    assert report.shapes == ("example", "opt", "min", "max")
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_an_older_opset_for_older_parsers() -> None:
    exported = export_torch(networks.Net(), example_inputs=networks.example_inputs, opset=17)
    assert opset(exported.model) == 17
    assert [value.name for value in exported.model.graph.inputs] == ["image"]
    check_parity(networks.Net(), exported.model, exported.example)


def test_inputs_from_numpy_and_integers() -> None:
    exported = export_torch(networks.Sum(), example_inputs=networks.numpy_inputs())
    assert [value.dtype.name for value in exported.model.graph.inputs] == ["FLOAT", "INT64"]
    made = make_example(networks.Sum(), parse_shapes("a:2x3,ids:2x3:int64"), None, 0)
    assert made.generated and made.tensors()[1].dtype == torch.int64
    check_parity(networks.Sum(), exported.model, made)


def test_torchscript(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
    torch.jit.script(net).save(tmp_path / "net.pt")
    script = torch.jit.load(tmp_path / "net.pt")
    exported = export_torch(script, parse_shapes("2x3x8x8"))
    assert [list(value.shape) for value in exported.model.graph.inputs] == [[2, 3, 8, 8]]
    check_parity(script, exported.model, exported.example)
    with pytest.raises(UsageError, match="fixed shapes"):
        export_torch(script, parse_shapes("", "1x3x8x8", "2x3x8x8", "4x3x8x8").for_inputs(["input"]))


def test_exported_program() -> None:
    program = torch.export.export(networks.Net().eval(), (torch.ones(2, 3, 8, 8),))
    exported = export_torch(program)
    check_parity(program, exported.model, exported.example)
    with pytest.raises(UsageError, match="shapes fixed in it"):
        export_torch(program, parse_shapes("1x3x8x8"))


@pytest.mark.parametrize(
    ("module", "shapes", "message"),
    [
        (networks.Branching(), "2x3", "(?s)cannot trace the module.*GuardOnDataDependent"),
        (torch.nn.Linear(3, 2), "2x4", "(?s)fails on its inputs before any export.*2x4.*made up"),
        (networks.Sum(), "a:2x3", "(?s)input 'ids' has no shape.*example_inputs"),
        (networks.Sum(), "2x3", "model has 2 inputs"),
        (networks.Net(), "picture:1x3x8x8", "no input is called 'picture'"),
    ],
)
def test_failures_are_one_message(module: torch.nn.Module, shapes: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        export_torch(module, parse_shapes(shapes))
    assert caught.value.__cause__ is None and "Traceback" not in str(caught.value)


def test_a_pinned_dimension_is_refused() -> None:
    class Pinned(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(4, -1) @ torch.ones(3, 2)

    with pytest.raises(UsageError, match="cannot trace"):
        export_torch(Pinned(), parse_shapes("", "1x3", "4x3", "8x3"))


def test_examples_must_fit() -> None:
    given = {"image": np.zeros((9, 3, 8, 8), np.float32), "scale": np.zeros((9, 1), np.float32)}
    with pytest.raises(UsageError, match="does not fit the shape of 'image'"):
        export_torch(networks.Net(), RANGE, example_inputs=given)
    with pytest.raises(UsageError, match="forward has no parameter 'picture'"):
        make_example(networks.Net(), RANGE, {"picture": 1}, 0)
