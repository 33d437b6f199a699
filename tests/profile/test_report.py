"""The summary as people and scripts read it, pinned by a golden file."""

import pytest

from hwc.artifacts import Kernel, Profile
from hwc.profile.report import format_profile, summarize
from tests.golden.compare_golden import compare_with_golden

SAMPLES = tuple(1_000_000 + 10_000 * n for n in range(100))
LAYERS = (
    Kernel("conv1 + relu1", "Convolution", "fp16", ("conv1", "relu1"), 400.0),
    Kernel("gemm", "Gemm", "fp32", ("gemm",), 1250.5),
    Kernel("pool", "Pooling", "fp16", ("pool",), 49.5),
    Kernel("reorder", "Reorder", "fp16"),
)


def a_profile(**changes) -> Profile:
    fields = {
        "engine": "net.engine",
        "latency_ns": SAMPLES,
        "warmup_ns": SAMPLES[:30],
        "is_stationary": True,
        "batch": 2,
        "machine": (("processor", "a made-up CPU"), ("clock_mhz", "2000"), ("load_before", "0.10")),
        "layers": LAYERS,
    }
    return Profile(**{**fields, **changes})


def test_the_summary_is_the_golden_one():
    compare_with_golden("profile.txt", format_profile(a_profile()) + "\n")


def test_the_summary_with_layers_is_the_golden_one():
    compare_with_golden("profile_layers.txt", format_profile(a_profile(is_stationary=False), layers=2) + "\n")


def test_a_moving_target_is_said_and_a_steady_one_is_not():
    assert "WARNING" not in format_profile(a_profile())
    assert "WARNING: latency did not settle" in format_profile(a_profile(is_stationary=False))


def test_layers_are_the_slowest_first_and_untimed_ones_are_not_shown_as_zero():
    text = format_profile(a_profile(), layers=10)
    assert text.index("gemm") < text.index("conv1") < text.index("pool")
    assert "reorder" not in text and "3 timed" in text
    assert "does not time layers" in format_profile(a_profile(layers=LAYERS[3:]), layers=3)
    assert "does not time layers" in format_profile(a_profile(layers=()), layers=3)


def test_layers_that_took_no_time_divide_by_nothing():
    assert "0.0 %" in format_profile(a_profile(layers=(Kernel("k", "Conv", "fp32", (), 0.0),)), layers=1)


def test_the_figures_for_programs_agree_with_the_samples():
    figures = summarize(a_profile())
    latency = figures["latency_ms"]
    assert (figures["runs"], figures["warmup_runs"], figures["is_stationary"]) == (100, 30, True)
    assert [latency[name] for name in ("min", "median", "max")] == pytest.approx([1.0, 1.495, 1.99])
    assert [latency[f"p{q}"] for q in (90, 95, 99)] == pytest.approx([1.891, 1.9405, 1.9801])
    assert figures["throughput_qps"] == pytest.approx(2 / latency["mean"] * 1e3)
