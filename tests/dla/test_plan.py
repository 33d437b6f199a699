import dataclasses

import pytest

from hwc import targets
from hwc.dla.cut_problem import cost_of
from hwc.dla.plan import explain_dla, plan_dla
from hwc.dla.report import format_report, report_data
from hwc.errors import TargetError, UsageError
from tests.dla.judged import ORIN, XAVIER, model
from tests.golden.compare_golden import compare_with_golden

NET = model(
    """c1 = Conv<pads=[1,1,1,1]>(x, w1)
       r1 = Relu(c1)
       p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
       h = HardSwish(p1)
       c2 = Conv<pads=[0,0,1,1], strides=[2,2]>(h, w2)
       r2 = Relu(c2)
       g = GlobalAveragePool(r2)
       f = Flatten(g)
       y = Gemm(f, w3)""",
    "float[1,3,64,64] x", "float[1,10] y",
    arrays={"w1": (64, 3, 3, 3), "w2": (64, 64, 3, 3), "w3": (64, 10)},
)  # fmt: skip
KINDS = {str(node.name): node.op_type for node in NET.graph}


def plan(target=XAVIER, precision="int8", **options):
    return explain_dla(NET, targets.load(target), precision, **options)


def test_every_layer_has_one_place() -> None:
    for target in (XAVIER, ORIN):
        for objective in ("latency", "offload"):
            found = plan(target, objective=objective).plan
            assert sorted((*found.dla_layers, *found.gpu_layers)) == sorted(KINDS)
            assert len(found.loadables) <= found.loadable_limit


def test_what_no_rule_allows_stays_on_the_gpu() -> None:
    found = plan(objective="offload").plan
    assert {KINDS[name] for name in found.gpu_layers} >= {"HardSwish", "GlobalAveragePool", "Flatten"}
    assert {KINDS[name] for name in found.dla_layers} >= {"Conv", "MaxPool"}
    assert found.transitions == 2 * len(found.loadables) == 2
    # Everywhere it may run would be three loadables, cut apart by what stands between them.
    assert plan(objective="offload").all_legal == (3, 6)


def test_latency_never_costs_more_than_the_gpu_alone() -> None:
    for target in (XAVIER, ORIN):
        for precision in ("fp16", "int8"):
            found = plan(target, precision).plan
            assert found.estimate_planned_ms <= found.estimate_gpu_ms + 1e-9


def test_all_puts_everything_that_may_run_there_on_dla_whatever_it_costs() -> None:
    found = plan(objective="all").plan
    assert set(found.gpu_layers) == {v.node for v in plan(objective="all").verdicts if not v.is_legal}
    assert found.estimate_planned_ms == found.estimate_dla_ms and len(found.loadables) == 3


def test_borders_of_loadables_are_named() -> None:
    first = plan(objective="offload").plan.loadables[0]
    assert first.inputs == ("x",) and first.outputs == ("p1",)


def test_a_fast_dla_is_used_for_latency(monkeypatch) -> None:
    import hwc.dla.plan as module

    prices = (lambda unit, board: (1e-3, 1e-6), lambda value, board: (1e-5, 1e-5))
    monkeypatch.setattr(module, "_latency_prices", prices)
    found = plan()
    assert len(found.plan.loadables) == 3 and found.plan.estimate_planned_ms < found.plan.estimate_gpu_ms


def test_plan_dla_is_the_plan_of_the_report_and_knows_its_graph() -> None:
    from hwc.graph.text import digest_model

    found = plan_dla(NET, targets.load(XAVIER), "int8")
    assert found == plan().plan and found.model_digest == digest_model(NET)


def test_refusals() -> None:
    with pytest.raises(TargetError, match="no DLA"):
        plan("orin-nano")
    with pytest.raises(TargetError, match="does not drive"):
        plan(ORIN, tensorrt="10.16")
    with pytest.raises(UsageError, match="objective"):
        plan(objective="fame")
    with pytest.raises(UsageError, match="no DLA core 1"):
        plan("orin-nx-8gb", core=1)


def test_bodies_and_open_shapes_stay_on_the_gpu() -> None:
    open_shapes = model("r = Relu(x) y = Sigmoid(r)", "float[N,4,8,8] x", "float[N,4,8,8] y")
    found = explain_dla(open_shapes, targets.load(XAVIER), "fp16")
    assert not found.plan.loadables and "static_shape" in str(found.verdicts[0].findings[0].rule)
    body = model(
        "a = Relu(x) b = If(c) <then_branch = t () => (float[1,4,8,8] u) { u = Relu(a) }, "
        "else_branch = e () => (float[1,4,8,8] v) { v = Neg(a) }> y = Add(a, b)",
        "float[1,4,8,8] x, bool c", "float[1,4,8,8] y",
    )
    found = explain_dla(body, targets.load(XAVIER), "fp16", objective="offload")
    # The If reads `a` inside its body, so the layers around it can be no single loadable.
    assert all(len(part.layers) == 1 for part in found.plan.loadables)
    assert any("no estimate" in note for note in found.plan.notes)


@pytest.mark.parametrize(("target", "precision"), [(XAVIER, "int8"), (ORIN, "fp16")])
def test_the_text(target, precision) -> None:
    report = plan(target, precision, objective="offload")
    text = "\n".join(format_report(report)) + "\n"
    compare_with_golden(f"dla_{target}.txt", text)


def test_the_data_says_all_that_the_text_says() -> None:
    report = plan(objective="offload")
    data = report_data(report)
    assert [layer["node"] for layer in data["layers"]] == list(KINDS)
    for layer in data["layers"]:
        assert layer["device"] == ("gpu" if layer["node"] in report.plan.gpu_layers else layer["device"])
        assert layer["may_run_on_dla"] or layer["findings"][0]["source"]
    assert data["plan"] == dataclasses.asdict(report.plan) and data["all_legal"]["loadables"] >= 2


def test_the_cost_of_the_plan_is_the_sum_of_its_parts() -> None:
    from hwc.dla import plan as module

    report = plan(objective="offload")
    legal = {v.node: v.is_legal for v in report.verdicts}
    units = module.form_units(list(NET.graph), legal)
    problem = module._pose(units, report.board, module._latency_prices)
    labels = tuple(str(unit.nodes[0].name) in report.plan.dla_layers for unit in units)
    assert cost_of(problem, labels) / 1e9 == pytest.approx(report.plan.estimate_planned_ms)
