"""What is measured of a CPU is plausible, also when products over all threads are disturbed."""

import pytest

from hwc.targets import measure_cpu


def test_an_undisturbed_product_is_the_answer(monkeypatch):
    monkeypatch.setattr(measure_cpu, "_measure_small", lambda cores: (90.0, "small"))
    monkeypatch.setattr(measure_cpu, "_measure_large", lambda: (200.0, "large"))
    assert measure_cpu.measure_sgemm(2) == (200.0, "large")


def test_a_disturbed_one_is_replaced_and_said(monkeypatch):
    monkeypatch.setattr(measure_cpu, "_measure_large", lambda: (1.2, "large"))
    monkeypatch.setattr(measure_cpu, "_measure_small", lambda cores: (45.0 * cores, "small"))
    assert measure_cpu.measure_sgemm(2) == (90.0, "small; large reached 1.2 GFLOPS only, so the machine was busy")


def test_interruptions_do_not_show_in_the_small_products(monkeypatch):
    taken = iter([1.0, 5e-6, 1.0])  # two runs lost their core
    monkeypatch.setattr(measure_cpu, "_time_dot", lambda left, out: next(taken, 1.0))
    monkeypatch.setattr(measure_cpu, "BOX_SECONDS", 0.0)
    rate, how = measure_cpu._measure_small(2)
    assert rate == pytest.approx(2 * 2 * measure_cpu.SMALL**3 / 5e-6 / 1e9, rel=1e-3)
    assert "2 times the best of 3 float32 products" in how


def test_this_machine_has_a_rate():
    rate, how = measure_cpu.measure_sgemm(1)
    assert rate > 0.5 and how.startswith("measured here: ")
