import pytest

from hwc.artifacts import TensorScale
from hwc.dla.judge_layers import judge_layers
from hwc.dla.tie_scales import tie_scales
from hwc.errors import UsageError
from tests.dla.judged import board, model, scales

NET = model(
    "p = MaxPool<kernel_shape=[1,1]>(x) c = Concat<axis=1>(p, z) r = Relu(c) s = Add(r, w) y = Sigmoid(s)",
    "float[1,4,8,8] x, float[1,4,8,8] z, float[1,8,8,8] w", "float[1,8,8,8] y",
)
LAYERS = [str(node.name) for node in NET.graph]
TABLE = scales(x=0.1, p=0.2, z=0.4, c=0.3, r=0.5, w=0.25, s=0.6, y=0.01)


def test_ties_chain_and_take_the_largest() -> None:
    tied, grown = tie_scales(NET, TABLE, LAYERS)
    assert {name: scale.scale[0] for name, scale in tied.tensors.items()} == {
        "x": 0.4, "p": 0.4, "z": 0.4, "c": 0.4, "r": 0.5, "w": 0.5, "s": 0.6, "y": 0.01
    }
    assert grown == pytest.approx({"x": 4.0, "p": 2.0, "c": 4 / 3, "w": 2.0})


def test_a_tied_table_passes_the_rules_and_an_untied_one_does_not() -> None:
    tied, _ = tie_scales(NET, TABLE, LAYERS)
    assert all(v.is_legal for v in judge_layers(NET, board(precision="int8", table=tied)))
    assert sum(not v.is_legal for v in judge_layers(NET, board(precision="int8", table=TABLE))) == 3


def test_layers_on_the_gpu_tie_nothing() -> None:
    assert tie_scales(NET, TABLE, [])[0] == TABLE


def test_a_missing_scale_and_one_per_channel_are_refused() -> None:
    with pytest.raises(UsageError, match="'z' has no scale"):
        tie_scales(NET, scales(x=0.1, p=0.1, c=0.1), LAYERS)
    tensors = {**TABLE.tensors, "z": TensorScale((0.1, 0.2), axis=1)}
    with pytest.raises(UsageError, match="per channel"):
        tie_scales(NET, type(TABLE)("m", "d", 1, "max", tensors), LAYERS)
