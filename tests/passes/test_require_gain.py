import dataclasses

import pytest

from hwc import targets
from hwc.passes.base import run_pass
from hwc.passes.commute_average_pool import commute_average_pool
from tests.passes.check import check_pass, context
from tests.passes.gain import pretend
from tests.passes.test_commute_average_pool import graph


def test_no_gain_is_a_near_miss_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 12.1, 13.4)
    _, _, report = check_pass(commute_average_pool, graph("GlobalAveragePool"), rewrites=0)
    assert report.misses[0].reason == "estimate 12.1 us -> 13.4 us on rtx-4090"


def test_equal_is_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 5.0, 5.0)
    check_pass(commute_average_pool, graph("GlobalAveragePool"), rewrites=0)


def test_a_target_without_facts_is_a_near_miss() -> None:
    bare = dataclasses.replace(targets.load("rtx-4090"), name="bare", facts={})
    ctx = dataclasses.replace(context(), target=bare)
    _, _, report = check_pass(commute_average_pool, graph("GlobalAveragePool"), rewrites=0, ctx=ctx)
    assert report.misses[0].reason.startswith("no estimate: bare has no fact")


def test_only_the_batch_may_be_dynamic() -> None:
    check_pass(commute_average_pool, graph("GlobalAveragePool", x="N,8,64,64", y="N,16,1,1"), rewrites=1)
    _, _, report = check_pass(commute_average_pool, graph("GlobalAveragePool", x="2,8,H,64", y="2,16,1,1"), rewrites=0)
    assert "is not static" in report.misses[0].reason


@pytest.mark.parametrize("target", ["rtx-4090", "orin-nano-8gb", "agx-xavier-64gb", "a100"])
def test_the_real_estimate_agrees_that_a_sixteenth_of_the_work_is_faster(target: str) -> None:
    model = graph("AveragePool<kernel_shape = [4, 4], strides = [4, 4]>", x="1,8,256,256", y="1,16,64,64")
    _, step, report = run_pass(model, commute_average_pool, context(target))
    assert step.rewrites == 1, report.misses
