import pytest

from hwc import targets
from hwc.capture import capture_model
from hwc.errors import InternalError, TargetError
from hwc.frontend.input_shapes import InputShapes
from hwc.inspect_dla import DlaOptions, inspect_dla, rewrite_for_dla
from hwc.passes.base import PassReport
from hwc.store import Store
from tests.dla.judged import XAVIER, model
from tests.e2e.tiny_models import write_text
from tests.passes.check import random_feeds

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,4,14,14] x) => (float[1,4,1,1] y) {
  h = HardSwish(x)
  y = GlobalAveragePool(h)
}"""


def silent(what: str, fraction: float) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def captured(tmp_path):
    store = Store(tmp_path / "cache")
    return capture_model(str(write_text(tmp_path, TEXT)), InputShapes(), store=store)[0], store


def inspect(captured, target: str = XAVIER, **options):
    model_, store = captured
    return inspect_dla(model_, targets.load(target), DlaOptions(**options), store=store, progress=silent)


def test_rewrites_bring_layers_to_dla(captured) -> None:
    plain, rewritten = inspect(captured, rewrite=False), inspect(captured)
    assert not any(verdict.is_legal for verdict in plain.report.verdicts) and plain.steps == ()
    assert all(verdict.is_legal for verdict in rewritten.report.verdicts)
    done = {step.name: step.rewrites for step in rewritten.steps if step.rewrites}
    assert done == {"decompose_hardswish": 1, "cascade_average_pool": 1}


def test_a_board_without_dla_is_refused_before_any_work(captured) -> None:
    with pytest.raises(TargetError, match="no DLA"):
        inspect(captured, "orin-nano")
    with pytest.raises(TargetError, match="does not drive"):
        inspect(captured, "agx-orin", tensorrt="11.0")


def test_a_rewrite_that_changes_numbers_is_caught(monkeypatch) -> None:
    def break_relu(graph, context):
        for node in graph.graph:
            node.op_type = "Sigmoid"
        return PassReport(1)

    net = model("y = Relu(x)", "float[1,4,8,8] x", "float[1,4,8,8] y")
    monkeypatch.setattr("hwc.passes.pipeline.DLA", (break_relu,))
    with pytest.raises(InternalError, match="changed what the graph computes"):
        rewrite_for_dla(net, targets.load(XAVIER), "fp16", random_feeds(net), progress=silent)
