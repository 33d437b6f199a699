"""Candidates: what runs here is run and timed, anything else is stood in for by its graph and only estimated."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from hwc import run_candidates, targets
from hwc.array_file import load_arrays
from hwc.artifacts import Attempt, BuildKey, Fact, Verdict
from hwc.build import Built, defer
from hwc.capture import FEEDS, MODEL
from hwc.graph.evaluate import Evaluator
from hwc.graph.save import save_model
from hwc.precision.place_qdq import place_qdq
from hwc.precision.simulate import Simulator
from hwc.run_candidates import (
    Candidate,
    describe_decision,
    estimate_candidates,
    is_judgeable,
    measure_candidates,
    open_run,
    runs_here,
)
from tests.e2e.int8_case import Case, make_case
from tests.precision.placed import TENSORRT, plan_of

VERDICT = Verdict("top1", 200, 100.0, 99.0, 1.0, -0.5, 2.5, 0.95, 3.0, "absolute", "passed", "likely")


@pytest.fixture(scope="module")
def orin(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("orin"), target="agx-orin-64gb")


@pytest.fixture(scope="module")
def cpu(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("cpu"))


def deferred(case: Case, precision="fp32", folder=None) -> tuple:
    optimized = dataclasses.replace(case.full, precision=precision, folder=folder or case.full.folder)
    key = BuildKey(optimized.digest, "agx-xavier-32gb", "tensorrt", precision)
    return optimized, Built(optimized.folder, defer(optimized, key, targets.load("agx-xavier")))


def candidate(name, precision, *, high=(), optimized=None, built=None) -> Candidate:
    return Candidate(optimized, built, Attempt(name, precision, "rolled back", "", high=high, verdict=VERDICT))


# Words.


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ("passed", "top1 drops by 1.00 of at most 3 (absolute), shown at 95%"),
        ("undecided", "top1 drops by 1.00 of at most 3 (absolute), though 200 samples cannot show it at 95%"),
        ("failed", "top1 drops by 1.00 of at most 3 (absolute): over the limit"),
    ],
)
def test_each_decision_has_its_words(decision, words):
    assert describe_decision(dataclasses.replace(VERDICT, decision=decision)) == words


@pytest.mark.parametrize(("decision", "passed"), [("passed", True), ("undecided", True), ("failed", False)])
def test_only_a_drop_over_the_limit_keeps_it_from_shipping(decision, passed):
    one = candidate("int8", "int8")
    attempt = dataclasses.replace(one.attempt, verdict=dataclasses.replace(VERDICT, decision=decision))
    assert dataclasses.replace(one, attempt=attempt).passed is passed
    assert not dataclasses.replace(one, attempt=dataclasses.replace(attempt, verdict=None)).passed


# Runs.


def test_the_engine_itself_runs_where_it_can(cpu):
    built = cpu.request().build(cpu.full)
    feeds = load_arrays(cpu.full.folder / FEEDS)
    assert runs_here(built) and candidate("fp32", "fp32", built=built).runs_here
    with open_run(cpu.full, built) as run:
        got = run(feeds)["logits"]
    np.testing.assert_allclose(got, Evaluator(cpu.full.folder / MODEL).run(feeds)["logits"], rtol=1e-3, atol=1e-3)


def test_a_deferred_engine_is_stood_in_for_by_its_graph(orin, tmp_path):
    feeds = load_arrays(orin.full.folder / FEEDS)
    optimized, built = deferred(orin)
    assert not runs_here(built)
    with open_run(optimized, built) as run:
        np.testing.assert_array_equal(run(feeds)["logits"], Evaluator(optimized.folder / MODEL).run(feeds)["logits"])
    placed = place_qdq(plan_of(ir.load(orin.full.folder / MODEL), TENSORRT))
    save_model(placed, tmp_path / MODEL)
    with open_run(*deferred(orin, "int8", tmp_path)) as run:
        got = run(feeds)["logits"]
    np.testing.assert_array_equal(got, Simulator(placed).run(feeds)["logits"])
    assert len(Simulator(placed).integer_nodes) >= 6


def test_a_float_is_judged_only_if_its_type_is_in_the_graph(orin, cpu):
    assert is_judgeable(*deferred(orin)) and is_judgeable(*deferred(orin, "int8"))
    assert not is_judgeable(*deferred(orin, "fp16"))  # an FP32 graph and a flag for the builder
    strong = make_strong(orin)
    assert is_judgeable(*strong)
    assert is_judgeable(dataclasses.replace(cpu.full, precision="bf16"), cpu.request().build(cpu.full))


def make_strong(case: Case) -> tuple:
    """The graph in FP16 as a strongly typed engine gets it."""
    from hwc.passes.base import PassContext
    from hwc.passes.pipeline import PRECISION, run_passes

    model = ir.load(case.full.folder / MODEL)
    model, _, _ = run_passes(model, PassContext(target=case.target, precision="fp16"), passes=PRECISION)
    folder = case.folder / "strong"
    folder.mkdir(exist_ok=True)
    save_model(model, folder / MODEL)
    return deferred(case, "fp16", folder)


# Which is faster: measured.


@pytest.mark.parametrize(
    ("ratio", "decided", "wins"),
    [(0.5, True, True), (1.2, True, False), (1.2, False, True), (0.9, False, True)],
)
def test_int8_loses_only_where_it_was_seen_to_be_slower(monkeypatch, ratio, decided, wins):
    def pair(a, b, feeds_a, feeds_b, options, *, names):
        assert (a, b, names) == ("i", "f", ("int8", "fp32")) and feeds_a is feeds_b
        found = SimpleNamespace(ratio=ratio, low=ratio - 0.1, high=ratio + 0.1, is_decided=decided)
        return SimpleNamespace(p50_ms=ratio * 2), SimpleNamespace(p50_ms=2.0), found

    monkeypatch.setattr(run_candidates, "open_session", lambda engine, folder: contextlib.nullcontext(engine))
    monkeypatch.setattr(run_candidates, "measure_pair", pair)
    built = [SimpleNamespace(engine=name, folder=None) for name in "if"]
    integer, floating = candidate("int8", "int8", built=built[0]), candidate("fp32", "fp32", built=built[1])
    found, why, latencies = measure_candidates(integer, floating, {})
    assert (found, latencies) == (wins, (ratio * 2, 2.0))
    assert why == f"int8 takes {ratio:.3f} [{ratio - 0.1:.3f}, {ratio + 0.1:.3f}] of the time of fp32, measured in turn"


def test_two_engines_are_timed_in_one_run(cpu, monkeypatch):
    quick = dataclasses.replace(run_candidates._MEASURE, warmup_s=0.02, max_warmup_s=0.1, duration_s=0.1)
    monkeypatch.setattr(run_candidates, "_MEASURE", quick)
    built = cpu.request().build(cpu.full)
    pair = [candidate(name, "fp32", built=built) for name in ("int8", "fp32")]
    _, why, (mine, other) = measure_candidates(*pair, load_arrays(cpu.full.folder / FEEDS))
    assert mine > 0 and other > 0 and "measured in turn" in why


# Which is faster: estimated.


def figures(why: str) -> tuple[float, float]:
    words = why.replace(",", "").split()
    return float(words[2]), float(words[5])


def estimate(case: Case, high=(), target=None):
    pair = (candidate("int8", "int8", high=high), candidate("fp16", "fp16"))
    return estimate_candidates(*pair, case.full, target or case.target, "tensorrt")


def test_each_group_that_is_put_back_costs_what_it_costs_in_floats(orin):
    ids = [group.id for group in orin.full.groups]
    whole, floats = estimate(orin), estimate(orin, tuple(ids))
    assert whole[2] == (None, None) == floats[2]
    assert whole[1].startswith("estimate: INT8 ") and "fp16" in whole[1]
    mine, other = figures(whole[1])
    assert whole[0] == (mine <= other) and figures(floats[1]) == (other, other)
    some = [figures(estimate(orin, tuple(ids[:count]))[1])[0] for count in range(len(ids) + 1)]
    assert (some[0], some[-1]) == (mine, other)


def test_without_the_facts_int8_is_not_chosen_for_speed(orin):
    facts = {name: fact for name, fact in orin.target.facts.items() if not name.startswith(("gpu.", "memory."))}
    blind = dataclasses.replace(orin.target, facts=facts)
    wins, why, latencies = estimate(orin, target=blind)
    assert (wins, latencies) == (False, (None, None)) and why.startswith("no estimate says that INT8 is faster here (")


def test_slow_integers_lose_by_estimate(orin):
    names = ["gpu.int8_tops"]
    slow = {name: Fact(1e-3, orin.target.facts[name].unit, "a test") for name in names}
    wins, why, _ = estimate(orin, target=dataclasses.replace(orin.target, facts={**orin.target.facts, **slow}))
    assert not wins, why
