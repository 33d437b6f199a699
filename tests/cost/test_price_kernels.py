import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc import targets
from hwc.cost.fitted import load_fitted
from hwc.cost.kernel_work import Work
from hwc.cost.machine import Machine, machine_of
from hwc.cost.price_kernels import (
    PARAMETERS,
    from_log_vector,
    guesses,
    inference_seconds,
    join_tables,
    log_slopes,
    log_vector,
    make_table,
    merge_equal,
    price,
    unit_of,
)
from hwc.errors import TargetError, UsageError

ORIN = machine_of(targets.load("agx-orin"))
sizes = st.integers(1, 2000)
conv = st.builds(
    lambda m, n, k, small: Work(("g",), "conv", 1, m, n, k, m * n, m * k, n * k, m * n, small), sizes, sizes, sizes,
    st.booleans(),
)  # fmt: skip
deep = st.builds(lambda m, k: Work(("g",), "depthwise", k, m, 1, 9, 0, m * k, 9 * k, m * k), sizes, sizes)
plain = st.builds(lambda n: Work(("g",), "plain", plain_ops=n, read=n, written=n), st.integers(1, 10**7))
works = st.lists(st.one_of(conv, deep, plain), min_size=1, max_size=6)
boards = st.sampled_from(["agx-orin", "agx-xavier", "xavier-nx", "orin-nano", "jetson-nano", "tx2"])
precisions = st.sampled_from(["fp32", "fp16"])


def seconds(kernels: list[Work], machine: Machine, precision: str) -> float:
    return float(inference_seconds(make_table(kernels, machine, precision), load_fitted().latency)[0])


@settings(max_examples=60, deadline=None)
@given(works, boards, precisions, st.floats(1.0, 3.0))
def test_a_faster_clock_is_never_slower(kernels, board, precision, factor):
    target = targets.load(board)
    top = target.number("gpu.clock_max_mhz")
    slow, fast = machine_of(target, gpu_mhz=top / factor), machine_of(target)
    assert seconds(kernels, fast, precision) <= seconds(kernels, slow, precision) * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(works, precisions, st.floats(1.0, 4.0))
def test_more_bandwidth_is_never_slower(kernels, precision, factor):
    wide = dataclasses.replace(ORIN, bytes_per_s=ORIN.bytes_per_s * factor)
    assert seconds(kernels, wide, precision) <= seconds(kernels, ORIN, precision)


@settings(max_examples=60, deadline=None)
@given(works, precisions, st.integers(1, 32), st.integers(0, 16))
def test_more_sms_of_one_speed_are_never_slower(kernels, precision, count, more):
    def machine(sms: int) -> Machine:
        share = sms / 16
        return dataclasses.replace(ORIN, sm_count=sms, fp32_ops=ORIN.fp32_ops * share, fp16_ops=ORIN.fp16_ops * share)

    few, many = (seconds(kernels, machine(sms), precision) for sms in (count, count + more))
    assert many <= few * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(works, st.one_of(conv, plain))
def test_one_kernel_more_takes_longer(kernels, more):
    assert seconds([*kernels, more], ORIN, "fp16") > seconds(kernels, ORIN, "fp16")


@settings(max_examples=30, deadline=None)
@given(works, st.integers(1, 4))
def test_more_rows_never_take_less(kernels, factor):
    taller = [dataclasses.replace(w, m=w.m * factor, read=w.read * factor, written=w.written * factor,
                                  plain_ops=w.plain_ops * factor) for w in kernels]  # fmt: skip
    assert seconds(taller, ORIN, "fp16") >= seconds(kernels, ORIN, "fp16") * (1 - 1e-9)


def table_of_several():
    kernels = [Work(("a",), "conv", 1, 784, 128, 1152, 5, 4000, 9000, 7000, True),
               Work(("b",), "depthwise", 64, 784, 1, 9, 0, 4000, 90, 700),
               Work(("c",), "plain", plain_ops=9000, read=900),
               Work(("d",), "gemm", 1, 1, 1000, 2048, 0, 2048, 2048000, 1000)]  # fmt: skip
    pairs = [("agx-orin", "int8"), ("agx-orin", "fp32"), ("jetson-nano", "fp16"), ("tx2", "fp32"),
             ("xavier-nx", "fp16")]
    tables = [make_table(kernels, machine_of(targets.load(board)), p) for board, p in pairs]
    return join_tables([dataclasses.replace(t, row=np.full(4, i)) for i, t in enumerate(tables)])


def test_slopes_are_those_of_the_prices():
    table, clients = table_of_several(), ("mlperf", "", "torch2trt", "tf_to_trt", "ultralytics")
    theta = log_vector(guesses()) + 0.1

    def at(vector):
        return np.log(inference_seconds(table, from_log_vector(vector), clients))

    steps = [(at(theta + d) - at(theta - d)) / 2e-5 for d in np.eye(len(theta)) * 1e-5]
    assert log_slopes(table, from_log_vector(theta), clients) == pytest.approx(np.stack(steps, axis=1), abs=1e-6)


def test_equal_kernels_may_be_counted_instead_of_repeated():
    table = table_of_several()
    twice = join_tables([table, table])
    order = np.argsort(twice.row, kind="stable")
    twice = dataclasses.replace(
        twice, **{f.name: getattr(twice, f.name)[..., order] for f in dataclasses.fields(twice)}
    )
    merged = merge_equal(twice)
    assert len(merged.row) == len(table.row) and set(merged.count) == {2.0}
    clients = ("",) * 5
    assert inference_seconds(merged, guesses(), clients) == pytest.approx(
        inference_seconds(twice, guesses(), clients)
    )


def test_the_unit_follows_the_hardware():
    orin, nano, xavier = (machine_of(targets.load(n)) for n in ("agx-orin", "jetson-nano", "agx-xavier"))
    assert [unit_of(orin, p)[0] for p in ("fp32", "fp16", "int8")] == ["tensor_tf32", "tensor_fp16", "tensor_int8"]
    assert unit_of(nano, "fp16")[0] == "cuda_fp16" and unit_of(xavier, "fp32")[0] == "cuda_fp32"
    for board in ("jetson-nano", "tx2", "agx-thor"):
        with pytest.raises(TargetError, match="gpu.int8_tops"):
            unit_of(machine_of(targets.load(board)), "int8")
    with pytest.raises(UsageError, match="precision"):
        unit_of(orin, "fp8")


def test_parts_make_the_total_and_int8_is_faster_than_fp16():
    kernels = [Work(("a",), "conv", 1, 3136, 256, 2304, 0, 10**6, 10**6, 10**6)]
    parts = price(make_table(kernels, ORIN, "fp16"), load_fitted().latency)
    assert parts.total == pytest.approx(np.hypot(parts.compute, parts.memory) + parts.overhead)
    assert seconds(kernels, ORIN, "int8") < seconds(kernels, ORIN, "fp16") < seconds(kernels, ORIN, "fp32")


def test_every_parameter_has_a_shipped_constant_near_its_guess():
    shipped = load_fitted().latency
    assert set(shipped) == {p.name for p in PARAMETERS}
    for p in PARAMETERS:
        assert abs(np.log(shipped[p.name] / p.guess)) < 3 * p.spread, p.name
