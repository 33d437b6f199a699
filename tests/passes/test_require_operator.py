import pytest

from hwc import targets
from hwc.graph.match import NoMatch
from hwc.passes.recompose_layernorm import recompose_layernorm
from hwc.passes.require_operator import require_operator
from tests.passes.check import check_pass, context
from tests.passes.test_recompose_layernorm import CORE, graph


@pytest.mark.parametrize(
    ("op_type", "opset", "target"),
    [
        ("HardSwish", 14, "agx-xavier-32gb"),
        ("LayerNormalization", 17, "orin-nano-8gb"),
        ("Gelu", 20, "a100"),
        ("Swish", 24, "cpu"),
        ("Swish", 24, "rtx-4090"),
        ("HardSigmoid", 6, "jetson-nano"),
    ],
)
def test_has_it(op_type: str, opset: int, target: str) -> None:
    require_operator(op_type, opset, targets.load(target))


@pytest.mark.parametrize(
    ("op_type", "opset", "target", "reason"),
    [
        ("HardSwish", 13, "cpu", "HardSwish needs opset 14, the model has 13"),
        ("HardSwish", 18, "jetson-nano", "HardSwish needs TensorRT 8.4, jetson-nano has 8.2.1"),
        ("LayerNormalization", 18, "agx-xavier-32gb", "needs TensorRT 8.6, agx-xavier-32gb has 8.5.2"),
        ("Gelu", 20, "xavier-nx-8gb", "needs TensorRT 10.0"),
        ("Swish", 24, "a100", "no version of TensorRT is known to read Swish"),
    ],
)
def test_lacks_it(op_type: str, opset: int, target: str, reason: str) -> None:
    with pytest.raises(NoMatch, match=reason) as miss:
        require_operator(op_type, opset, targets.load(target))
    assert miss.value.near


def test_a_pass_leaves_what_the_board_can_read() -> None:
    model = graph(CORE + " y = Mul(z, g)")
    _, _, report = check_pass(recompose_layernorm, model, rewrites=0, ctx=context("agx-xavier-32gb"))
    assert "TensorRT 8.6" in report.misses[0].reason
