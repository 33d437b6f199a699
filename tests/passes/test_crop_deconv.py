import numpy as np
import pytest

from hwc.passes.base import run_pass
from hwc.passes.crop_deconv import crop_deconv
from tests.passes.build import assert_same_in_onnxruntime, weight
from tests.passes.check import ops
from tests.passes.for_dla import graph, on


def deconv(attributes: str, shape=(3, 4, 4, 4), y: str = "a,b,c,d"):
    group = int(attributes.split("group=")[1][0]) if "group=" in attributes else 1
    body = f"y = ConvTranspose<{attributes}>(x, w, b)"
    return graph(body, f"2,{shape[0]},5,6", y, {"w": weight(*shape), "b": weight(shape[1] * group)})


def rewritten(model, rewrites: int = 1):
    """onnx's reference evaluator gets grouped and asymmetric ConvTranspose wrong, so ONNX Runtime judges."""
    after, step, report = run_pass(model, crop_deconv, on())
    assert step.rewrites == rewrites, report.misses
    assert_same_in_onnxruntime(model, after)
    return after, report


@pytest.mark.parametrize(
    ("attributes", "shape", "left"),
    [
        ("strides=[2,2], pads=[1,1,1,1]", (3, 4, 4, 4), ["ConvTranspose", "Conv"]),
        ("strides=[2,2], pads=[1,0,2,1]", (3, 4, 4, 4), ["ConvTranspose", "Conv"]),
        ("strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]", (3, 4, 3, 3), ["ConvTranspose", "Conv"]),
        ("pads=[1,1,1,1], dilations=[2,1]", (3, 4, 3, 3), ["ConvTranspose", "Conv"]),
        ("strides=[2,2], pads=[1,1,1,1], group=3", (3, 1, 4, 4), ["ConvTranspose", "Conv"]),
        ("strides=[2,2], group=3", (6, 2, 2, 2), ["ConvTranspose"]),
    ],
)
def test_forms(attributes, shape, left) -> None:
    after, _ = rewritten(deconv(attributes, shape))
    assert ops(after) == left
    assert "pads" not in after.graph[0].attributes and "group" not in after.graph[0].attributes


@pytest.mark.parametrize(
    ("attributes", "shape", "reason"),
    [
        ("strides=[2,2], output_padding=[1,1]", (3, 4, 3, 3), "output_padding is larger"),
        ('auto_pad="SAME_UPPER", strides=[2,2], group=3', (3, 1, 3, 3), "auto_pad"),
        ("pads=[20,0,20,0]", (3, 4, 44, 1), "kernel of 41"),
    ],
)
def test_near_misses(attributes, shape, reason) -> None:
    _, report = rewritten(deconv(attributes, shape), rewrites=0)
    assert reason in report.misses[0].reason


def test_one_without_padding_is_not_near_and_weights_have_a_limit(monkeypatch) -> None:
    _, report = rewritten(deconv("strides=[2,2]", (3, 4, 2, 2)), rewrites=0)
    assert report.misses == ()
    monkeypatch.setattr("hwc.passes.crop_deconv.MAX_WEIGHTS", 10)
    _, report = rewritten(deconv("group=3", (3, 1, 2, 2)), rewrites=0)
    assert "too large" in report.misses[0].reason


def test_a_crop_at_the_wrong_place_would_be_seen() -> None:
    model = deconv("strides=[2,2], pads=[1,0,2,1]")
    after, _, _ = run_pass(model, crop_deconv, on())
    place = after.graph[1].inputs[1]
    place.const_value = type(place.const_value)(np.roll(place.const_value.numpy(), 1, axis=2), name=place.name)
    with pytest.raises(AssertionError, match="Not equal"):
        assert_same_in_onnxruntime(model, after)
