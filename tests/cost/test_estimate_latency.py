import json

import pytest

from hwc import targets
from hwc.cost import fitted as fitted_file
from hwc.cost.estimate_latency import estimate_dla, estimate_gpu, seconds_of_groups, start_seconds
from hwc.cost.fitted import load_fitted
from hwc.cost.machine import machine_of
from hwc.errors import InternalError, TargetError, UsageError
from tests.cost.test_kernel_work import POINT, grouped

BODY = """p = Conv(x, a) q = Conv(x, b) r = Conv<pads=[1,1,1,1]>(p, c) s = Relu(r) t = Concat<axis=1>(s, q)
          d = Constant<value_ints=[1,512]>() z = Reshape(t, d)"""
MODEL, GROUPS = grouped(BODY, POINT, "float[1,512] z")
ORIN = targets.load("agx-orin")


def test_groups_and_start_add_up_and_the_interval_is_around():
    found, kernels = estimate_gpu(MODEL, GROUPS, machine_of(ORIN), "fp16")
    assert sum(g.seconds for g in found.groups) + found.start_s == pytest.approx(found.seconds)
    assert found.low < found.seconds < found.high and found.basis == "board"
    assert sum(g.kernels for g in found.groups) == pytest.approx(len(kernels.total))
    assert {g.bound for g in found.groups if g.seconds} <= {"compute", "memory", "launch"}


def test_kernels_that_serve_two_groups_are_shared():
    times = seconds_of_groups(MODEL, GROUPS, ORIN, engine="gpu", precision="fp16")
    first, second = [g.id for g in GROUPS if g.kind == "Conv"][:2]
    assert times[first] == times[second] > 0


def test_a_view_takes_no_time():
    times = seconds_of_groups(MODEL, GROUPS, ORIN, engine="gpu", precision="fp16")
    assert [times[g.id] for g in GROUPS if g.kind == "Reshape"] == [0.0]


def test_the_dla_has_its_own_prices():
    dla = estimate_dla(MODEL, GROUPS, ORIN, machine_of(ORIN), "int8")
    times = seconds_of_groups(MODEL, GROUPS, ORIN, engine="dla", precision="int8")
    assert sum(times.values()) + start_seconds("dla") == pytest.approx(dla.seconds)
    slow = estimate_dla(MODEL, GROUPS, ORIN, machine_of(ORIN, "MODE_15W"), "int8")
    assert slow.seconds > dla.seconds and dla.low <= dla.seconds <= dla.high


@pytest.mark.parametrize(
    ("board", "precision", "words"),
    [("agx-orin", "fp16", "dla.fp16_tflops"), ("agx-xavier", "int8", "has DLA 1.0"),
     ("orin-nano", "int8", "has no DLA")],
)
def test_what_is_not_known_of_a_dla_is_said(board, precision, words):
    target = targets.load(board)
    with pytest.raises(TargetError, match=words):
        estimate_dla(MODEL, GROUPS, target, machine_of(target), precision)


def test_planners_may_rank_cuts_on_the_older_dla():
    xavier = targets.load("agx-xavier")
    assert sum(seconds_of_groups(MODEL, GROUPS, xavier, engine="dla", precision="int8").values()) > 0


def test_wrong_words_are_refused():
    with pytest.raises(UsageError, match="no such engine"):
        seconds_of_groups(MODEL, GROUPS, ORIN, engine="npu", precision="int8")
    with pytest.raises(UsageError, match="INT8 or FP16"):
        seconds_of_groups(MODEL, GROUPS, ORIN, engine="dla", precision="fp32")


def test_the_interval_widens_with_what_the_fit_did_not_know():
    fitted = load_fitted()
    spans = {}
    for board in ("agx-orin-64gb", "orin-nano-8gb", "agx-thor"):
        target = targets.load(board)
        basis, (low, high) = fitted.interval_of(target.name, str(target.fact("gpu.compute_capability").value))
        spans[basis] = high / low
    assert spans["board"] < spans["architecture"] and spans["board"] < spans["none"]


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"latency": {"constants": {}}})])
def test_damaged_constants_are_reported(text, tmp_path, monkeypatch):
    damaged = tmp_path / "fitted.json"
    damaged.write_text(text)
    monkeypatch.setattr(fitted_file, "FILE", damaged)
    load_fitted.cache_clear()
    try:
        with pytest.raises(InternalError, match="fitted constants"):
            load_fitted()
    finally:
        load_fitted.cache_clear()
